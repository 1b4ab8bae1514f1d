//! The files that a pipeline's file imports, read from disk: what goes along when it is set or run.

use anyhow::Context;
use pocketci_pipeline::modules::{Kind, MAX_MODULES, MAX_MODULES_BYTES, kind, resolve};
use pocketci_pipeline::program::imports;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

/// All files imported, directly or not, by their paths relative to the folder of `path`. What cannot be resolved is left
/// to the compiler, which names file and line.
pub fn collect(path: &Path, name: &str, content: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let is_file = |name: &str| folder.join(name).is_file();
    let mut found = BTreeMap::new();
    let mut bytes = 0;
    let mut waiting = VecDeque::from([(String::new(), name.to_owned(), content.to_owned())]);
    while let Some((base, file, content)) = waiting.pop_front() {
        // Syntax errors are told by the compiler, all together.
        for specifier in imports(&file, &content).unwrap_or_default() {
            let Ok(module) = resolve(&base, &specifier, is_file) else {
                continue;
            };
            if module == name || found.contains_key(&module) {
                continue;
            }
            let place = folder.join(&module);
            let text = std::fs::read_to_string(&place)
                .with_context(|| format!("cannot read {}, imported by {file}", place.display()))?;
            bytes += text.len();
            if found.len() >= MAX_MODULES || bytes > MAX_MODULES_BYTES {
                anyhow::bail!(
                    "{name} imports more than {MAX_MODULES} files, or more than {MAX_MODULES_BYTES} bytes of them"
                );
            }
            if kind(&module) == Some(Kind::Code) {
                waiting.push_back((module.clone(), module.clone(), text.clone()));
            }
            found.insert(module, text);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_imported_comes_along_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(
            "ci/lib/a.ts",
            "import '../../shared/b'; import './missing'; export {}",
        );
        write(
            "shared/b.ts",
            "import data from './d.json'; export { data }",
        );
        write("shared/d.json", "{}");
        write("ci/other.ts", "");
        let main = folder.path().join("ci/main.ts");
        let found = collect(
            &main,
            "main.ts",
            "import './lib/a'; import 'lodash'; import './main';",
        )
        .unwrap();
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["../shared/b.ts", "../shared/d.json", "lib/a.ts"]);
    }
}
