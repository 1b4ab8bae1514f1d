//! The files that a pipeline imports: which file an import means, and data files as modules.
//!
//! Names are paths relative to the folder of the pipeline's own file, with `/` between parts; a file above that folder
//! begins with `..`. The same rules decide when a pipeline is collected, compiled and run.

use crate::yaml;

/// Most files that a pipeline may import.
pub const MAX_MODULES: usize = 200;
/// Most bytes of all imported files together.
pub const MAX_MODULES_BYTES: usize = 4 << 20;

/// Endings tried for an import without one.
const ENDINGS: [&str; 6] = [".ts", ".js", ".mts", ".mjs", "/index.ts", "/index.js"];

/// What a file's content is to an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A program.
    Code,
    /// JSON or YAML.
    Data,
}

/// What a name's ending says; `None` for a file that cannot be imported.
pub fn kind(name: &str) -> Option<Kind> {
    match name.rsplit_once('.')?.1 {
        "ts" | "js" | "mts" | "mjs" => Some(Kind::Code),
        "json" | "yaml" | "yml" => Some(Kind::Data),
        _ => None,
    }
}

/// The name of the file that `specifier` means in the file `base` (the pipeline's own file is `""`).
///
/// # Errors
/// A sentence that says why there is none.
pub fn resolve(
    base: &str,
    specifier: &str,
    exists: impl Fn(&str) -> bool,
) -> Result<String, String> {
    if !(specifier.starts_with("./") || specifier.starts_with("../")) {
        return Err(format!(
            "'{specifier}' cannot be imported: only files beside the pipeline can be, by a path that begins with ./ or ../"
        ));
    }
    let plain = join(base, specifier);
    // TypeScript's own convention: the import names what the compiler would write.
    let as_typescript = plain.strip_suffix(".js").map(|stem| format!("{stem}.ts"));
    let with_endings = ENDINGS.iter().map(|ending| format!("{plain}{ending}"));
    let candidates = std::iter::once(plain.clone())
        .chain(as_typescript)
        .chain(with_endings);
    let found = candidates
        .filter(|name| kind(name).is_some())
        .find(|name| exists(name));
    found.ok_or_else(|| match kind(&plain) {
        None if plain.rsplit('/').next().is_some_and(|file| file.contains('.')) => format!(
            "'{specifier}' cannot be imported: .ts, .js, .mts, .mjs, .json, .yaml and .yml files can be"
        ),
        _ => format!("'{specifier}' cannot be imported: there is no file {plain}"),
    })
}

/// `specifier` seen from the folder of `base`.
fn join(base: &str, specifier: &str) -> String {
    let mut parts: Vec<&str> = base.split('/').collect();
    parts.pop();
    for part in specifier.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// A data file as a module whose default export is the data.
///
/// # Errors
/// What is wrong with the data, with line and column.
pub fn data_module(name: &str, content: &str) -> Result<String, String> {
    let json = if name.ends_with(".json") {
        serde_json::from_str::<serde_json::Value>(content)
            .map(|value| value.to_string())
            .map_err(|error| error.to_string())?
    } else {
        yaml::to_json(content)?
    };
    // Through a text: as an object literal, a member named __proto__ would not be one.
    let text = serde_json::Value::from(json).to_string();
    Ok(format!("export default JSON.parse({text});\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_means_a_file_relative_to_its_own() {
        let files = [
            "lib/a.ts",
            "lib/b/index.ts",
            "c.js",
            "../up.ts",
            "d.json",
            "lib/d.mts",
        ];
        let resolve = |base: &str, specifier: &str| {
            resolve(base, specifier, |name| files.contains(&name)).unwrap_or_default()
        };
        assert_eq!(resolve("", "./lib/a.ts"), "lib/a.ts");
        assert_eq!(resolve("", "./lib/a"), "lib/a.ts");
        assert_eq!(resolve("", "./lib/a.js"), "lib/a.ts");
        assert_eq!(resolve("", "./lib/b"), "lib/b/index.ts");
        assert_eq!(resolve("lib/a.ts", "../c"), "c.js");
        assert_eq!(resolve("lib/a.ts", "../../up"), "../up.ts");
        assert_eq!(resolve("../up.ts", "./up.ts"), "../up.ts");
        assert_eq!(resolve("lib/b/index.ts", "../../d.json"), "d.json");
        assert_eq!(resolve("lib/a.ts", "./d"), "lib/d.mts");
    }

    #[test]
    fn what_cannot_be_imported_is_told() {
        let told = |specifier: &str| resolve("", specifier, |_| false).unwrap_err();
        assert!(told("lodash").contains("only files beside the pipeline"));
        assert!(told("/etc/passwd").contains("only files beside the pipeline"));
        assert!(told("./missing").contains("no file missing"));
        assert!(told("./picture.png").contains(".json"));
    }

    #[test]
    fn data_is_data_whatever_its_names() {
        let module = data_module("a.json", r#"{"__proto__": {"x": 1}, "t": "\u2028"}"#).unwrap();
        assert!(
            module.starts_with("export default JSON.parse(\"{"),
            "{module}"
        );
        assert!(data_module("a.yaml", "a: [1").is_err());
        assert!(data_module("a.json", "{").unwrap_err().contains("line 1"));
    }
}
