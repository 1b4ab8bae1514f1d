//! Compiles agent.proto with protox, so that no `protoc` is needed to build.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/agent.proto");
    let descriptors = protox::compile(["proto/agent.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".pocketci.agent.v1")
        .compile_fds(descriptors)?;
    Ok(())
}
