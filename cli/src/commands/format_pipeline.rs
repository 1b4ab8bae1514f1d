//! `pocketci format-pipeline`: a YAML pipeline in its canonical form, as it is stored and compared.

use super::validate::read;
use crate::args::FormatArgs;
use crate::output::exit;
use anyhow::Context;
use pocketci_pipeline::config::{decoded, format, report};
use pocketci_pipeline::program::ContentType;
use std::io::Write;
use std::path::Path;

pub fn run(args: &FormatArgs) -> anyhow::Result<u8> {
    let file = read(&args.file)?;
    if file.content_type != ContentType::Yaml {
        anyhow::bail!(
            "{} is a program; only YAML pipelines have a canonical form",
            file.name
        );
    }
    let config = match decoded(&file.content) {
        Ok(config) => config,
        Err(faults) => {
            eprint!("{}", report(&file.name, &faults));
            return Ok(exit::FAILED);
        }
    };
    let text = format::format(&config);
    if args.write && args.file != Path::new("-") {
        replace(&args.file, &text)
            .with_context(|| format!("cannot write {}", args.file.display()))?;
    } else {
        print!("{text}");
    }
    Ok(exit::OK)
}

/// The old text stays until the new one is there, whole.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let path = path.canonicalize()?;
    let folder = path.parent().context("a file has a folder")?;
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(text.as_bytes())?;
    new.as_file()
        .set_permissions(std::fs::metadata(&path)?.permissions())?;
    new.persist(&path)?;
    Ok(())
}
