//! Turns an author's TypeScript or JavaScript into the ES module an agent runs, or says what is wrong with it.
//!
//! Only types are taken away (and enums, namespaces and parameter properties turned into JavaScript); modern syntax
//! stays, since the engine knows ES2023. The result stays a module: its exports are looked up when it is run. Types are
//! not checked, and other modules are not bundled.

use std::path::{Path, PathBuf};

use oxc::allocator::Allocator;
use oxc::ast::ast;
use oxc::ast_visit::{Visit, walk};
use oxc::codegen::{Codegen, CodegenOptions};
use oxc::diagnostics::{Diagnostics, OxcDiagnostic};
use oxc::parser::Parser;
use oxc::semantic::SemanticBuilder;
use oxc::span::{SourceType, Span};
use oxc::transformer::{TransformOptions, Transformer};
use serde::{Deserialize, Serialize};

use crate::deep_stack;
use crate::diagnostic::Diagnostic;

/// Largest pipeline file, in bytes. A pipeline is written by hand; this leaves room for one that was bundled.
pub const MAX_SOURCE_BYTES: usize = 1 << 20;

/// Most places in a file where an expression or a statement can begin to nest. It bounds the parser's recursion and
/// with it the reserved stack; an ordinary file of the greatest size stays below it.
pub const MAX_NESTING_POINTS: usize = 200_000;

/// Most diagnostics in one answer; a file that is no program at all would give thousands.
pub const MAX_DIAGNOSTICS: usize = 50;

/// What a pipeline file is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentType {
    /// TypeScript.
    Ts,
    /// JavaScript.
    Js,
    /// Concourse-style YAML.
    Yaml,
}

impl ContentType {
    /// The name used by the protocol and the HTTP API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ts => "ts",
            Self::Js => "js",
            Self::Yaml => "yaml",
        }
    }

    /// What a file's ending says it is written in; `None` for an ending that says nothing.
    pub fn from_file_name(file_name: &str) -> Option<Self> {
        let ending = Path::new(file_name).extension()?.to_str()?;
        match ending.to_ascii_lowercase().as_str() {
            "ts" | "mts" => Some(Self::Ts),
            "js" | "mjs" => Some(Self::Js),
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

impl std::fmt::Display for ContentType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no content type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown content type {0:?}: expected ts, js or yaml")]
pub struct UnknownContentType(String);

impl std::str::FromStr for ContentType {
    type Err = UnknownContentType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "ts" => Ok(Self::Ts),
            "js" => Ok(Self::Js),
            "yaml" => Ok(Self::Yaml),
            _ => Err(UnknownContentType(text.to_owned())),
        }
    }
}

/// A compiled pipeline file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// An ES module that imports nothing and exports `pipeline`, a default, or both.
    pub javascript: String,
    /// Source map of `javascript` (version 3, JSON), with the author's source in it.
    pub source_map: String,
}

/// Compiles a pipeline file. `file_name` is the author's name for it; it is not opened.
///
/// # Errors
///
/// Every fault found, at least one and at most [`MAX_DIAGNOSTICS`]: syntax errors, imports of other modules, no
/// exported pipeline, a file that is too large, or one in YAML.
pub fn compile(
    file_name: &str,
    content_type: ContentType,
    source: &str,
) -> Result<Program, Vec<Diagnostic>> {
    let refuse = |message: String| {
        Err(vec![Diagnostic {
            file: file_name.to_owned(),
            line: 1,
            column: 1,
            message,
            frame: String::new(),
        }])
    };
    match content_type {
        ContentType::Ts | ContentType::Js => {}
        ContentType::Yaml => {
            return refuse("YAML pipelines are not supported by this version".to_owned());
        }
    }
    if source.len() > MAX_SOURCE_BYTES {
        return refuse(format!(
            "the file has {} bytes, more than the {MAX_SOURCE_BYTES} a pipeline may have",
            source.len()
        ));
    }
    let levels = nesting_points(source);
    if levels > MAX_NESTING_POINTS {
        return refuse(format!(
            "the file is too complex: it has {levels} operators and brackets, more than {MAX_NESTING_POINTS}"
        ));
    }
    match deep_stack::run(levels, || transpile(file_name, source)) {
        Ok(result) => result,
        Err(error) => refuse(format!("cannot compile: {error}")),
    }
}

/// An upper bound of how deep a text's syntax tree can be: each level takes at least one of these.
fn nesting_points(source: &str) -> usize {
    const OPENERS: &[u8] = b"([{!~+-*/%?.:&|^=<>`@,";
    const WORDS: &[&str] = &[
        "new",
        "typeof",
        "void",
        "await",
        "delete",
        "yield",
        "if",
        "else",
        "for",
        "while",
        "do",
        "in",
        "of",
        "instanceof",
        "as",
        "satisfies",
        "keyof",
        "readonly",
        "unique",
        "infer",
        "extends",
        "async",
        "throw",
        "return",
        "try",
        "with",
        "import",
        "export",
        "class",
        "function",
        "abstract",
        "asserts",
        "is",
    ];
    let punctuation = source.bytes().filter(|b| OPENERS.contains(b)).count();
    let words = source
        .split(|c: char| !c.is_alphanumeric() && c != '_' && c != '$')
        .filter(|word| WORDS.contains(word))
        .count();
    punctuation + words
}

fn transpile(file_name: &str, source: &str) -> Result<Program, Vec<Diagnostic>> {
    let report = |found: &Diagnostics| -> Result<(), Vec<Diagnostic>> {
        let errors: Vec<_> = found
            .errors()
            .take(MAX_DIAGNOSTICS)
            .map(|error| explain(file_name, source, error))
            .collect();
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    };
    let allocator = Allocator::default();
    // TypeScript's grammar contains JavaScript's, so both take the same way.
    let parsed = Parser::new(&allocator, source, SourceType::ts().with_module(true)).parse();
    report(&parsed.diagnostics)?;
    let mut program = parsed.program;
    let mut requires = ModuleLinks::default();
    for statement in &program.body {
        if let ast::Statement::TSImportEqualsDeclaration(it) = statement {
            requires.import_equals(it);
        }
    }
    let checked = SemanticBuilder::new()
        .with_check_syntax_error(true)
        .with_enum_eval(true)
        .build(&program);
    report(&checked.diagnostics)?;
    let scoping = checked.semantic.into_scoping();
    let options = TransformOptions::default();
    let transformed = Transformer::new(&allocator, Path::new(file_name), &options)
        .build_with_scoping(scoping, &mut program);
    report(&transformed.diagnostics)?;

    check_modules(file_name, source, &program, requires)?;

    let printed = Codegen::new()
        .with_options(CodegenOptions {
            source_map_path: Some(PathBuf::from(file_name)),
            ..CodegenOptions::default()
        })
        .build(&program);
    Ok(Program {
        javascript: printed.code,
        source_map: printed
            .map
            .map(|map| map.to_json_string())
            .unwrap_or_default(),
    })
}

fn explain(file_name: &str, source: &str, error: &OxcDiagnostic) -> Diagnostic {
    let offset = error
        .labels
        .first()
        .map_or(0, |label| label.offset() as usize);
    let message = match &error.help {
        Some(help) => format!("{} ({help})", error.message),
        None => error.message.to_string(),
    };
    Diagnostic::at_offset(file_name, source, offset, message)
}

/// Refuses what an agent could not run: modules that are not there, and a program without a pipeline.
fn check_modules(
    file_name: &str,
    source: &str,
    program: &ast::Program<'_>,
    mut links: ModuleLinks,
) -> Result<(), Vec<Diagnostic>> {
    links.visit_program(program);
    let mut faults: Vec<_> = links
        .imports
        .iter()
        .take(MAX_DIAGNOSTICS)
        .map(|(span, message)| {
            Diagnostic::at_offset(file_name, source, span.start as usize, message)
        })
        .collect();
    if faults.is_empty() && !links.exports_pipeline {
        faults.push(Diagnostic::at_offset(
            file_name,
            source,
            0,
            "exports no pipeline: add `export { pipeline };` or `export default async () => {…}`",
        ));
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults)
    }
}

/// What a program asks of other modules, and whether it exports a pipeline. It is read from the transformed tree,
/// from which imports and exports of types are gone already.
#[derive(Default)]
struct ModuleLinks {
    imports: Vec<(Span, String)>,
    exports_pipeline: bool,
}

impl ModuleLinks {
    fn refuse(&mut self, span: Span, what: &str, specifier: &str) {
        self.imports.push((
            span,
            format!(
                "{what} '{specifier}' cannot be resolved: modules are not bundled yet; put everything into one file"
            ),
        ));
    }

    /// `import x = require('./x')`, which is a plain call once it is transformed.
    fn import_equals(&mut self, it: &ast::TSImportEqualsDeclaration<'_>) {
        if it.import_kind.is_type() {
            return;
        }
        if let ast::TSModuleReference::ExternalModuleReference(module) = &it.module_reference {
            self.refuse(it.span, "import of", &module.expression.value);
        }
    }

    fn export(&mut self, name: &str) {
        self.exports_pipeline |= name == "pipeline" || name == "default";
    }
}

impl<'a> Visit<'a> for ModuleLinks {
    fn visit_import_declaration(&mut self, it: &ast::ImportDeclaration<'a>) {
        self.refuse(it.span, "import of", &it.source.value);
    }

    fn visit_export_all_declaration(&mut self, it: &ast::ExportAllDeclaration<'a>) {
        self.refuse(it.span, "export from", &it.source.value);
    }

    fn visit_export_from_declaration(&mut self, it: &ast::ExportFromDeclaration<'a>) {
        self.refuse(it.span, "export from", &it.source.value);
    }

    fn visit_import_expression(&mut self, it: &ast::ImportExpression<'a>) {
        match &it.source {
            ast::Expression::StringLiteral(specifier) => {
                self.refuse(it.span, "import of", &specifier.value);
            }
            _ => self.imports.push((
                it.span,
                "a dynamic import cannot be resolved: modules are not bundled yet; put everything into one file"
                    .to_owned(),
            )),
        }
        walk::walk_import_expression(self, it);
    }

    fn visit_export_default_declaration(&mut self, it: &ast::ExportDefaultDeclaration<'a>) {
        self.export("default");
        walk::walk_export_default_declaration(self, it);
    }

    fn visit_export_named_declaration(&mut self, it: &ast::ExportNamedDeclaration<'a>) {
        for specifier in &it.specifiers {
            self.export(&specifier.exported.name());
        }
    }

    fn visit_export_declaration(&mut self, it: &ast::ExportDeclaration<'a>) {
        match &it.declaration {
            ast::Declaration::VariableDeclaration(variables) => {
                for variable in &variables.declarations {
                    for name in variable.id.get_binding_identifiers() {
                        self.export(&name.name);
                    }
                }
            }
            ast::Declaration::FunctionDeclaration(function) => {
                if let Some(name) = &function.id {
                    self.export(&name.name);
                }
            }
            // A class, or anything else, cannot be called as a pipeline.
            _ => {}
        }
        walk::walk_export_declaration(self, it);
    }
}

#[cfg(test)]
mod tests;
