//! `pocketci init`: a first pipeline, and what an editor needs to help with it.

use crate::args::InitArgs;
use crate::output::exit;
use anyhow::Context;
use std::path::Path;

/// What is written, in this order.
const FILES: [(&str, &str); 3] = [
    ("pipeline.ts", include_str!("../../templates/pipeline.ts")),
    (
        "tsconfig.json",
        include_str!("../../templates/tsconfig.json"),
    ),
    (
        "pocketci.d.ts",
        include_str!("../../../packages/pocketci/global.d.ts"),
    ),
];

pub fn run(args: &InitArgs) -> anyhow::Result<u8> {
    let folder = args.folder.as_path();
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let there: Vec<&str> = FILES
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| folder.join(name).exists())
        .collect();
    if !there.is_empty() && !args.force {
        anyhow::bail!(
            "{} is there already in {}; nothing was written. Use --force to overwrite, or another folder",
            there.join(", "),
            folder.display()
        );
    }
    for (name, text) in FILES {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote {}", path.display());
    }
    let shown = shown(&folder.join("pipeline.ts"));
    println!("\ntry it:  pocketci run {shown} --webhook-body '{{\"name\": \"you\"}}'");
    println!("set it:  pocketci set-pipeline {shown} --name hello --webhook-secret SECRET");
    Ok(exit::OK)
}

/// Without a leading `./`.
fn shown(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}
