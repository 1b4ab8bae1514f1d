//! Turns an author's TypeScript or JavaScript into the ES module an agent runs, or says what is wrong with it.
//!
//! Only types are taken away (and enums, namespaces and parameter properties turned into JavaScript); modern syntax
//! stays, since the engine knows ES2023. The result stays a module: its exports are looked up when it is run, and each
//! file it imports is compiled by itself and stays one too. Types are not checked.

mod links;
mod listens;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use oxc::allocator::Allocator;
use oxc::ast::ast;
use oxc::ast_visit::Visit;
use oxc::codegen::{Codegen, CodegenOptions};
use oxc::diagnostics::{Diagnostics, OxcDiagnostic};
use oxc::parser::Parser;
use oxc::semantic::SemanticBuilder;
use oxc::span::SourceType;
use oxc::transformer::{TransformOptions, Transformer};
use serde::{Deserialize, Serialize};

use crate::deep_stack;
use crate::diagnostic::Diagnostic;
use crate::modules::{self, MAX_MODULES, MAX_MODULES_BYTES};
use links::ModuleLinks;
pub use listens::Listen;

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
    /// An ES module that exports `pipeline`, a default, or both.
    pub javascript: String,
    /// Source map of `javascript` (version 3, JSON), with the author's source in it.
    pub source_map: String,
    /// What it imports, directly or not, in the order found.
    pub modules: Vec<Module>,
    /// Events that it listens to, in the order found.
    pub listens: Vec<Listen>,
}

/// An imported file, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// See [`crate::modules`].
    pub name: String,
    /// The author's text.
    pub source: String,
    /// An ES module.
    pub javascript: String,
    /// Empty for data.
    pub source_map: String,
}

/// Compiles a pipeline file and the files it imports. `file_name` is the author's name for it; nothing is opened:
/// `files` holds the imported files by their names.
///
/// # Errors
///
/// Every fault found, at least one and at most [`MAX_DIAGNOSTICS`]: syntax errors, imports that cannot be resolved, no
/// exported pipeline, a file that is too large, or one in YAML.
pub fn compile(
    file_name: &str,
    content_type: ContentType,
    source: &str,
    files: &BTreeMap<String, String>,
) -> Result<Program, Vec<Diagnostic>> {
    if content_type == ContentType::Yaml {
        return Err(refusal(
            file_name,
            "YAML pipelines are not supported by this version".to_owned(),
        ));
    }
    let bytes: usize = files.values().map(String::len).sum();
    if files.len() > MAX_MODULES || bytes > MAX_MODULES_BYTES {
        return Err(refusal(
            file_name,
            format!(
                "the pipeline imports {} files with {bytes} bytes; at most {MAX_MODULES} files with {MAX_MODULES_BYTES} bytes are possible",
                files.len()
            ),
        ));
    }
    let exists = |name: &str| name == file_name || files.contains_key(name);
    let entry = compile_one(file_name, source, Role::Entry, &|specifier| {
        modules::resolve("", specifier, exists)
    });
    let mut faults = Vec::new();
    let mut wanted: VecDeque<String> = VecDeque::new();
    let entry = match entry {
        Ok((unit, imports)) => {
            wanted.extend(imports);
            Some(unit)
        }
        Err(found) => {
            faults.extend(found);
            None
        }
    };
    let mut done = BTreeSet::from([file_name.to_owned()]);
    let mut compiled = Vec::new();
    let mut listens = Vec::new();
    while let Some(name) = wanted.pop_front() {
        let (false, Some(source)) = (done.contains(&name), files.get(&name)) else {
            continue;
        };
        done.insert(name.clone());
        match compile_import(&name, source, &exists) {
            Ok((module, imports, heard)) => {
                compiled.push(module);
                listens.extend(heard);
                wanted.extend(imports);
            }
            Err(found) => faults.extend(found),
        }
    }
    faults.truncate(MAX_DIAGNOSTICS);
    match entry {
        Some(unit) if faults.is_empty() => Ok(Program {
            javascript: unit.javascript,
            source_map: unit.source_map,
            modules: compiled,
            listens: [unit.listens, listens].concat(),
        }),
        Some(_) | None => Err(faults),
    }
}

fn compile_import(
    name: &str,
    source: &str,
    exists: &(dyn Fn(&str) -> bool + Sync),
) -> Result<(Module, Vec<String>, Vec<Listen>), Vec<Diagnostic>> {
    let module = |javascript, source_map| Module {
        name: name.to_owned(),
        source: source.to_owned(),
        javascript,
        source_map,
    };
    if modules::kind(name) == Some(modules::Kind::Data) {
        let javascript =
            modules::data_module(name, source).map_err(|wrong| refusal(name, wrong))?;
        return Ok((module(javascript, String::new()), Vec::new(), Vec::new()));
    }
    let resolve = |specifier: &str| modules::resolve(name, specifier, exists);
    let (unit, imports) = compile_one(name, source, Role::Import, &resolve)?;
    let listens = unit.listens.clone();
    Ok((module(unit.javascript, unit.source_map), imports, listens))
}

/// What a file imports, as written: what a client must look for to bring it along.
///
/// # Errors
/// Syntax errors.
pub fn imports(file_name: &str, source: &str) -> Result<Vec<String>, Vec<Diagnostic>> {
    let any = |specifier: &str| Ok(specifier.to_owned());
    compile_one(file_name, source, Role::Import, &any).map(|(_, imports)| imports)
}

/// Whether a file must export a pipeline.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Entry,
    Import,
}

/// A file's own compiled form.
struct Unit {
    javascript: String,
    source_map: String,
    listens: Vec<Listen>,
}

type Resolve<'a> = dyn Fn(&str) -> Result<String, String> + Sync + 'a;

fn refusal(file_name: &str, message: String) -> Vec<Diagnostic> {
    vec![Diagnostic {
        file: file_name.to_owned(),
        line: 1,
        column: 1,
        message,
        frame: String::new(),
    }]
}

fn compile_one(
    file_name: &str,
    source: &str,
    role: Role,
    resolve: &Resolve<'_>,
) -> Result<(Unit, Vec<String>), Vec<Diagnostic>> {
    if source.len() > MAX_SOURCE_BYTES {
        return Err(refusal(
            file_name,
            format!(
                "the file has {} bytes, more than the {MAX_SOURCE_BYTES} a pipeline may have",
                source.len()
            ),
        ));
    }
    let levels = nesting_points(source);
    if levels > MAX_NESTING_POINTS {
        return Err(refusal(
            file_name,
            format!(
                "the file is too complex: it has {levels} operators and brackets, more than {MAX_NESTING_POINTS}"
            ),
        ));
    }
    // The resolver only reads; what it reads is shared with the other thread for the time of the call.
    match deep_stack::run(levels, || transpile(file_name, source, role, resolve)) {
        Ok(result) => result,
        Err(error) => Err(refusal(file_name, format!("cannot compile: {error}"))),
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

fn transpile(
    file_name: &str,
    source: &str,
    role: Role,
    resolve: &Resolve<'_>,
) -> Result<(Unit, Vec<String>), Vec<Diagnostic>> {
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
    let mut links = ModuleLinks::new(resolve);
    for statement in &program.body {
        if let ast::Statement::TSImportEqualsDeclaration(it) = statement {
            links.import_equals(it);
        }
    }
    let checked = SemanticBuilder::new()
        .with_check_syntax_error(true)
        .with_enum_eval(true)
        .build(&program);
    report(&checked.diagnostics)?;
    let scoping = checked.semantic.into_scoping();
    let listens = listens::find(&scoping, &program).map_err(|faults| {
        let faults = faults.into_iter().take(MAX_DIAGNOSTICS);
        let explain = |(offset, message): (u32, &str)| {
            Diagnostic::at_offset(file_name, source, offset as usize, message)
        };
        faults.map(explain).collect::<Vec<_>>()
    })?;
    let options = TransformOptions::default();
    let transformed = Transformer::new(&allocator, Path::new(file_name), &options)
        .build_with_scoping(scoping, &mut program);
    report(&transformed.diagnostics)?;

    let imports = check_modules(file_name, source, role, &program, links)?;

    let printed = Codegen::new()
        .with_options(CodegenOptions {
            source_map_path: Some(PathBuf::from(file_name)),
            ..CodegenOptions::default()
        })
        .build(&program);
    let unit = Unit {
        javascript: printed.code,
        source_map: printed
            .map
            .map(|map| map.to_json_string())
            .unwrap_or_default(),
        listens,
    };
    Ok((unit, imports))
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

/// Refuses what an agent could not run: modules that are not there, and a program without a pipeline. Returns the
/// names of the files it imports.
fn check_modules(
    file_name: &str,
    source: &str,
    role: Role,
    program: &ast::Program<'_>,
    mut links: ModuleLinks<'_>,
) -> Result<Vec<String>, Vec<Diagnostic>> {
    links.visit_program(program);
    let mut faults: Vec<_> = links
        .faults
        .iter()
        .take(MAX_DIAGNOSTICS)
        .map(|(span, message)| {
            Diagnostic::at_offset(file_name, source, span.start as usize, message)
        })
        .collect();
    if faults.is_empty() && role == Role::Entry && !links.exports_pipeline {
        faults.push(Diagnostic::at_offset(
            file_name,
            source,
            0,
            "exports no pipeline: add `export { pipeline };` or `export default async () => {…}`",
        ));
    }
    if faults.is_empty() {
        Ok(links.imports)
    } else {
        Err(faults)
    }
}

#[cfg(test)]
mod tests;
