//! Compiles the contract with `protox`, so that building needs no `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=v1");
    let files = protox::compile(["v1/node.proto", "v1/gateway.proto"], ["v1"])?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
