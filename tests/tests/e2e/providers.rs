//! The pages about providers are executed: each one's shell blocks, in order, against a server, with the outputs they show.

use pocketci_tests::{Server, ServerOptions, pocketci};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a page's script prints between two blocks.
const BETWEEN: &str = "--- the next block ---";

struct Block {
    script: String,
    /// The block of output after it.
    output: Option<String>,
}

fn folder() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join("docs/providers")
}

/// The `sh` blocks of a page, each with the `text` block that follows it at once.
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut fences = page.split("```").skip(1).step_by(2).peekable();
    while let Some(fence) = fences.next() {
        let Some(script) = fence.strip_prefix("sh\n") else {
            continue;
        };
        let output = fences.peek().and_then(|next| next.strip_prefix("text\n"));
        blocks.push(Block {
            script: script.to_owned(),
            output: output.map(str::to_owned),
        });
    }
    blocks
}

/// Runs all blocks in one shell; what each printed.
fn execute(name: &str, blocks: &[Block], server: &str) -> Vec<String> {
    let home = tempfile::tempdir().unwrap();
    let scripts: Vec<&str> = blocks.iter().map(|block| &*block.script).collect();
    let script = scripts.join(&format!("\necho '{BETWEEN}'\n"));
    let binaries = pocketci().parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let done = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(home.path())
        .env("HOME", home.path())
        .env("PATH", format!("{}:{path}", binaries.display()))
        .env("CI_SERVER_URL", server)
        .env_remove("CI_AUTH_TOKEN")
        .output()
        .unwrap();
    let printed = String::from_utf8(done.stdout).unwrap();
    assert!(
        done.status.success(),
        "docs/providers/{name} fails with {}:\n{printed}\n{}",
        done.status,
        String::from_utf8_lossy(&done.stderr)
    );
    let between = format!("{BETWEEN}\n");
    printed.split(&between).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_about_a_provider_does_what_it_says() {
    let server = Server::start(ServerOptions::default()).await;
    let index = std::fs::read_to_string(folder().join("README.md")).unwrap();
    let mut pages = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "README.md" {
            continue;
        }
        assert!(
            index.contains(&format!("({name})")),
            "{name} is not in the index"
        );
        let page = std::fs::read_to_string(&path).unwrap();
        let blocks = blocks(&page);
        let compared = blocks.iter().filter(|block| block.output.is_some());
        assert!(compared.count() >= 2, "{name} shows no outputs");
        let printed = execute(&name, &blocks, &server.url);
        assert_eq!(printed.len(), blocks.len(), "{name}: {printed:?}");
        for (block, printed) in blocks.iter().zip(&printed) {
            if let Some(output) = &block.output {
                assert_eq!(printed, output, "{name}:\n{}", block.script);
            }
        }
        pages += 1;
    }
    assert_eq!(
        index.matches(".md)").count(),
        pages,
        "a page of the index is not there"
    );
    assert!(pages >= 15, "the pages were not found");
}
