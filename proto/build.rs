//! Compiles the contract with `protox`, so that building needs no `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=v1");
    let mut compiler = protox::Compiler::new(["v1"])?;
    compiler.include_source_info(true).include_imports(true).open_files(["node.proto", "gateway.proto", "log.proto", "witness.proto"])?;
    // The contract as data: compared with the recorded versions in `tests/contracts/`.
    let folder = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    let files = compiler.file_descriptor_set();
    compiler.include_source_info(false);
    std::fs::write(folder.join("contract.binpb"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
