//! TypeScript to JavaScript: types are removed, everything else stays modern, positions are kept in a source map.

use crate::diagnostic::Diagnostic;
use oxc::allocator::Allocator;
use oxc::ast::ast::Program as Ast;
use oxc::codegen::{Codegen, CodegenOptions, IndentChar};
use oxc::diagnostics::OxcDiagnostic;
use oxc::parser::Parser;
use oxc::semantic::SemanticBuilder;
use oxc::span::SourceType;
use oxc::syntax::module_record::ModuleRecord;
use oxc::transformer::{TransformOptions, Transformer};
use std::path::Path;

/// Largest source of a pipeline, in bytes.
pub const MAX_SOURCE_BYTES: usize = 1024 * 1024;
/// Most faults told at once.
const MAX_DIAGNOSTICS: usize = 50;

/// What kind of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentType {
    /// TypeScript.
    Ts,
    /// JavaScript.
    Js,
    /// Concourse-style YAML.
    Yaml,
}

impl ContentType {
    /// The word used in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ts => "ts",
            Self::Js => "js",
            Self::Yaml => "yaml",
        }
    }
}

/// What runs: an ES module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its text.
    pub javascript: String,
    /// JSON, `javascript` → the author's source.
    pub source_map: String,
}

/// Turns a pipeline's file into what runs, or tells every fault found.
pub fn compile(
    file: &str,
    content_type: ContentType,
    source: &str,
) -> Result<Program, Vec<Diagnostic>> {
    let whole = |message: String| Err(vec![Diagnostic::at(file, source, 0, message)]);
    if source.len() > MAX_SOURCE_BYTES {
        return whole(format!(
            "the file has {} bytes; a pipeline may have at most {MAX_SOURCE_BYTES}",
            source.len()
        ));
    }
    if content_type == ContentType::Yaml {
        return whole(
            "this version of pocketci runs TypeScript and JavaScript pipelines, not YAML".into(),
        );
    }
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, source, SourceType::ts().with_module(true)).parse();
    let faults = to_diagnostics(file, source, parsed.diagnostics.into_vec());
    if !faults.is_empty() || parsed.panicked {
        return Err(non_empty(file, source, faults));
    }
    let mut faults = check_module(file, source, &parsed.module_record);
    let mut ast = parsed.program;
    let semantic = SemanticBuilder::new()
        .with_check_syntax_error(true)
        .with_enum_eval(true)
        .build(&ast);
    faults.extend(to_diagnostics(
        file,
        source,
        semantic.diagnostics.into_vec(),
    ));
    if !faults.is_empty() {
        return Err(faults);
    }
    let scoping = semantic.semantic.into_scoping();
    let options = TransformOptions::default();
    let transformed = Transformer::new(&allocator, Path::new(file), &options)
        .build_with_scoping(scoping, &mut ast);
    let faults = to_diagnostics(file, source, transformed.diagnostics.into_vec());
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(print(file, &ast))
}

fn print(file: &str, ast: &Ast<'_>) -> Program {
    let printed = Codegen::new()
        .with_options(CodegenOptions {
            source_map_path: Some(file.into()),
            indent_char: IndentChar::Space,
            indent_width: 2,
            ..CodegenOptions::default()
        })
        .build(ast);
    Program {
        javascript: printed.code,
        source_map: printed
            .map
            .map(|map| map.to_json_string())
            .unwrap_or_default(),
    }
}

fn non_empty(file: &str, source: &str, faults: Vec<Diagnostic>) -> Vec<Diagnostic> {
    if faults.is_empty() {
        return vec![Diagnostic::at(file, source, 0, "this is not TypeScript")];
    }
    faults
}

/// Errors in the order of the file; warnings are the linter's business.
fn to_diagnostics(file: &str, source: &str, faults: Vec<OxcDiagnostic>) -> Vec<Diagnostic> {
    let mut found: Vec<Diagnostic> = faults
        .iter()
        .filter(|fault| fault.severity == oxc::diagnostics::Severity::Error)
        .take(MAX_DIAGNOSTICS)
        .map(|fault| {
            let offset = fault
                .labels
                .iter()
                .next()
                .map_or(0, |label| label.offset() as usize);
            let mut message = fault.message.to_string();
            if let Some(help) = &fault.help {
                message.push_str(&format!(" ({help})"));
            }
            Diagnostic::at(file, source, offset, message)
        })
        .collect();
    found.sort_by_key(|fault| (fault.line, fault.column));
    found
}

/// A pipeline is one file that exports what to run.
fn check_module(file: &str, source: &str, module: &ModuleRecord<'_>) -> Vec<Diagnostic> {
    let mut faults = Vec::new();
    for (name, requests) in &module.requested_modules {
        for request in requests.iter().filter(|request| !request.is_type) {
            let message = format!(
                "cannot import {:?}: a pipeline is one file; put everything it needs into it",
                name.as_str()
            );
            faults.push(Diagnostic::at(
                file,
                source,
                request.span.start as usize,
                message,
            ));
        }
    }
    for import in &module.dynamic_imports {
        let message = "import() cannot load anything: a pipeline is one file; put everything it needs into it";
        faults.push(Diagnostic::at(
            file,
            source,
            import.span.start as usize,
            message,
        ));
    }
    let exported = module.exported_bindings.contains_key("pipeline")
        || module.exported_bindings.contains_key("default")
        || module
            .local_export_entries
            .iter()
            .any(|entry| !entry.is_type && entry.export_name.is_default());
    if !exported {
        let message = "the file exports no pipeline; add `export { pipeline };` or `export default async () => { … }`";
        faults.push(Diagnostic::at(file, source, 0, message));
    }
    faults.sort_by_key(|fault| (fault.line, fault.column));
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn js(source: &str) -> String {
        compile("a.ts", ContentType::Ts, source).unwrap().javascript
    }

    fn faults(source: &str) -> Vec<String> {
        let faults = compile("a.ts", ContentType::Ts, source).unwrap_err();
        faults
            .iter()
            .map(|fault| format!("{}:{}: {}", fault.line, fault.column, fault.message))
            .collect()
    }

    #[test]
    fn types_go_and_the_program_stays() {
        let code = js(
            "interface A { x: number }\nconst a: A = { x: 1 } satisfies A;\n\
             enum E { One = 1 }\nclass P { constructor(private y: number) {} }\n\
             const pipeline = async (): Promise<void> => { console.log(a!.x as number, E.One, new P(2)?.constructor ?? 0); };\n\
             export { pipeline };",
        );
        assert!(
            !code.contains("interface")
                && !code.contains("satisfies")
                && !code.contains(": number"),
            "{code}"
        );
        assert!(code.contains("this.y = y"), "{code}");
        assert!(
            code.contains("export { pipeline }") && code.contains("??"),
            "{code}"
        );
    }

    #[test]
    fn every_form_of_export_is_a_pipeline() {
        for source in [
            "export const pipeline = () => {};",
            "export function pipeline() {}",
            "export async function pipeline() {}",
            "export default async () => {};",
            "export default function () {}",
            "const main = 1; export { main as pipeline };",
            "const main = 1; export { main as default };",
        ] {
            js(source);
        }
        assert_eq!(
            faults("const pipeline = async () => {};"),
            [
                "1:1: the file exports no pipeline; add `export { pipeline };` or `export default async () => { … }`"
            ]
        );
    }

    #[test]
    fn all_syntax_errors_come_at_once_with_their_places() {
        let found =
            faults("let a = 1; let a = 2;\nexport const pipeline = () => { return 1 + ; };");
        assert!(!found.is_empty() && found[0].starts_with("2:"), "{found:?}");
        let found = faults("let a = 1;\nlet a = 2;\nlet b; let b;\nexport const pipeline = 1;");
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn a_fault_shows_its_line() {
        let faults = compile(
            "dir/b.ts",
            ContentType::Ts,
            "export const pipeline = () => {\n  retrun 1;\n};",
        )
        .unwrap_err();
        let text = faults[0].to_string();
        assert!(text.starts_with("dir/b.ts:2:"), "{text}");
        assert!(text.contains("> 2 |   retrun 1;"), "{text}");
    }

    #[test]
    fn modules_are_refused_but_types_may_be_imported() {
        assert!(
            faults("import x from './x'; x(); export const pipeline = 1;")[0]
                .contains("cannot import \"./x\"")
        );
        assert!(faults("export const pipeline = () => import('fs');")[0].contains("import()"));
        assert!(
            !js("import type { X } from './x'; export const pipeline = (x: X) => x;")
                .contains("import")
        );
    }

    #[test]
    fn limits_and_yaml_are_told() {
        let big = " ".repeat(MAX_SOURCE_BYTES + 1);
        assert!(faults(&big)[0].contains("at most"));
        assert!(compile("a.yml", ContentType::Yaml, "jobs: []").is_err());
    }

    #[test]
    fn garbage_never_panics() {
        for source in [
            "\0",
            "}{",
            "é".repeat(100).as_str(),
            "<T>(",
            "/*",
            "`${",
            "class {",
            "\u{feff}x",
        ] {
            let _ = compile("a.ts", ContentType::Ts, source);
        }
    }
}
