//! Compiles the frozen protocol of the previous version.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/v1/agent.proto");
    let descriptors = protox::compile(["proto/v1/agent.proto"], ["proto/v1"])?;
    tonic_prost_build::configure()
        .bytes(".pocketci.agent.v1")
        .compile_fds(descriptors)?;
    Ok(())
}
