//! What a program asks of other modules, and what it exports.

use super::Resolve;
use oxc::ast::ast;
use oxc::ast_visit::{Visit, walk};
use oxc::span::Span;

/// What a program asks of other modules, and whether it exports a pipeline. It is read from the transformed tree,
/// from which imports and exports of types are gone already.
pub(super) struct ModuleLinks<'r> {
    resolve: &'r Resolve<'r>,
    pub(super) imports: Vec<String>,
    pub(super) faults: Vec<(Span, String)>,
    pub(super) exports_pipeline: bool,
}

impl<'r> ModuleLinks<'r> {
    pub(super) fn new(resolve: &'r Resolve<'r>) -> Self {
        Self {
            resolve,
            imports: Vec::new(),
            faults: Vec::new(),
            exports_pipeline: false,
        }
    }

    fn import(&mut self, span: Span, specifier: &str) {
        match (self.resolve)(specifier) {
            Ok(name) => self.imports.push(name),
            Err(wrong) => self.faults.push((span, wrong)),
        }
    }

    /// `import x = require('./x')`, which is a plain call once it is transformed.
    pub(super) fn import_equals(&mut self, it: &ast::TSImportEqualsDeclaration<'_>) {
        if it.import_kind.is_type() {
            return;
        }
        if let ast::TSModuleReference::ExternalModuleReference(module) = &it.module_reference {
            self.faults.push((
                it.span,
                format!(
                    "require('{}') is not possible here; write an import declaration",
                    module.expression.value
                ),
            ));
        }
    }

    fn export(&mut self, name: &str) {
        self.exports_pipeline |= name == "pipeline" || name == "default";
    }
}

impl<'a> Visit<'a> for ModuleLinks<'_> {
    fn visit_import_declaration(&mut self, it: &ast::ImportDeclaration<'a>) {
        self.import(it.span, &it.source.value);
    }

    fn visit_export_all_declaration(&mut self, it: &ast::ExportAllDeclaration<'a>) {
        self.import(it.span, &it.source.value);
    }

    fn visit_export_from_declaration(&mut self, it: &ast::ExportFromDeclaration<'a>) {
        for specifier in &it.specifiers {
            self.export(&specifier.exported.name());
        }
        self.import(it.span, &it.source.value);
    }

    fn visit_import_expression(&mut self, it: &ast::ImportExpression<'a>) {
        match &it.source {
            ast::Expression::StringLiteral(specifier) => {
                self.import(it.span, &specifier.value);
            }
            _ => self.faults.push((
                it.span,
                "an import of a computed name cannot be resolved; write the file's name as a text"
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
