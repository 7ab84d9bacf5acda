//! The program `concordat`.

fn main() -> std::process::ExitCode {
    concordat::main()
}
