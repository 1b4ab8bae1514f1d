//! `pocketci validate-pipeline`: every fault of a file at once, without a server.

use super::{configuration, modules};
use crate::args::ValidateArgs;
use crate::output::exit;
use anyhow::Context;
use pocketci_pipeline::config::{self, Strictness};
use pocketci_pipeline::program::{ContentType, Program, compile};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// A pipeline's file as the author sees it.
pub struct PipelineFile {
    /// For messages: the file's own name, without folders.
    pub name: String,
    /// Its kind, by its ending; stdin is TypeScript unless it is YAML with jobs.
    pub content_type: ContentType,
    /// Its text.
    pub content: String,
    /// The files it imports, by their paths relative to its folder.
    pub modules: BTreeMap<String, String>,
}

/// Reads a pipeline's file, `-` being stdin.
pub fn read(path: &Path) -> anyhow::Result<PipelineFile> {
    if path == Path::new("-") {
        let mut content = String::new();
        std::io::stdin()
            .read_to_string(&mut content)
            .context("cannot read the pipeline from stdin")?;
        let is_yaml = config::looks_like_a_pipeline(&content);
        return Ok(PipelineFile {
            name: if is_yaml { "stdin.yml" } else { "stdin.ts" }.into(),
            content_type: if is_yaml {
                ContentType::Yaml
            } else {
                ContentType::Ts
            },
            content,
            modules: BTreeMap::new(),
        });
    }
    let content_type = match path.extension().and_then(|ending| ending.to_str()) {
        Some("ts" | "mts") => ContentType::Ts,
        Some("js" | "mjs") => ContentType::Js,
        Some("yml" | "yaml") => ContentType::Yaml,
        _ => anyhow::bail!(
            "cannot tell what {} is: a pipeline's file ends in .ts, .js, .yml or .yaml",
            path.display()
        ),
    };
    let bytes = std::fs::read(path)
        .with_context(|| format!("cannot read the pipeline's file {}", path.display()))?;
    let content = text(bytes, path)?;
    let name = path.file_name().unwrap_or(path.as_os_str());
    let name = name.to_string_lossy().into_owned();
    let modules = match content_type {
        ContentType::Ts | ContentType::Js => modules::collect(path, &name, &content)?,
        ContentType::Yaml => BTreeMap::new(),
    };
    Ok(PipelineFile {
        name,
        content_type,
        content,
        modules,
    })
}

/// A pipeline's file that is no text. As any other fault of a file it ends with [`exit::FAILED`].
#[derive(Debug, thiserror::Error)]
#[error("{file}:{line}: the file is not UTF-8 from here on")]
pub struct NotText {
    file: String,
    line: usize,
}

fn text(bytes: Vec<u8>, path: &Path) -> Result<String, NotText> {
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..good];
        NotText {
            file: path.display().to_string(),
            line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
        }
    })
}

/// The compiled file; every fault is printed to stderr.
pub fn compiled(file: &PipelineFile) -> Option<Program> {
    match compile(&file.name, file.content_type, &file.content, &file.modules) {
        Ok(program) => Some(program),
        Err(faults) => {
            for fault in &faults {
                eprintln!("{fault}");
            }
            let count = faults.len();
            eprintln!(
                "error: {} has {count} {}",
                file.name,
                if count == 1 { "fault" } else { "faults" }
            );
            None
        }
    }
}

pub fn run(args: &ValidateArgs) -> anyhow::Result<u8> {
    let file = read(&args.file)?;
    if file.content_type != ContentType::Yaml {
        if compiled(&file).is_none() {
            return Ok(exit::FAILED);
        }
        println!("looks good");
        return Ok(exit::OK);
    }
    let vars = configuration::vars(&args.vars)?;
    let strictness = if args.strict {
        Strictness::Strict
    } else {
        Strictness::Server
    };
    let Some(config) = configuration::loaded(&file, &vars, strictness) else {
        return Ok(exit::FAILED);
    };
    if args.output {
        print!("{}", config::format::format(&config));
        eprintln!("looks good");
    } else {
        println!("looks good");
    }
    Ok(exit::OK)
}
