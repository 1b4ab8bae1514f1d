//! `event.listen("key", { filter })`: the events that start a program, read from its text without running it.

use oxc::ast::ast;
use oxc::ast_visit::{Visit, walk};
use oxc::semantic::{ReferenceId, Scoping};
use std::collections::HashSet;

/// An event that a program listens to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Its key.
    pub event: String,
    /// An expression over the message, if only some are wanted.
    pub filter: Option<String>,
}

const USE: &str = "event.listen must be called in place, as event.listen(\"key\") or event.listen(\"key\", { filter: \"…\" }): what starts a pipeline must be known before it runs";
const KEY: &str =
    "event.listen: the key must be written as a text, so that it is known before the pipeline runs";
const OPTIONS: &str = "event.listen: after the key only { filter: \"…\" } may stand, with the filter written as a text, so that it is known before the pipeline runs";

/// All calls in a file; `scoping` tells the global `event` from variables of that name.
///
/// # Errors
/// Where something is that cannot be read without running it, and why.
pub(super) fn find(
    scoping: &Scoping,
    program: &ast::Program<'_>,
) -> Result<Vec<Listen>, Vec<(u32, &'static str)>> {
    let global = scoping.root_unresolved_references();
    let global = global
        .iter()
        .filter(|(name, _)| name.as_str() == "event")
        .flat_map(|(_, references)| references.iter().copied())
        .collect();
    let mut finder = Finder {
        global,
        listens: Vec::new(),
        faults: Vec::new(),
        aliases: Vec::new(),
        names_listen: false,
    };
    finder.visit_program(program);
    // Passed on, `event` may be asked to listen elsewhere, if anything is.
    if finder.names_listen {
        finder.faults.append(&mut finder.aliases);
    }
    match finder.faults.is_empty() {
        true => Ok(finder.listens),
        false => Err(finder.faults),
    }
}

struct Finder {
    /// References to the global that no call has explained yet.
    global: HashSet<ReferenceId>,
    listens: Vec<Listen>,
    faults: Vec<(u32, &'static str)>,
    /// Where the global is used otherwise than by a member that is named.
    aliases: Vec<(u32, &'static str)>,
    /// Whether something that is no such call has the name `listen`.
    names_listen: bool,
}

impl Finder {
    /// Whether this is the global, not explained yet; it counts as explained then.
    fn is_global(&mut self, object: &ast::Expression<'_>) -> bool {
        let ast::Expression::Identifier(object) = object else {
            return false;
        };
        let reference = object.reference_id.get();
        reference.is_some_and(|reference| self.global.remove(&reference))
    }

    /// Whether this is `event.listen` of the global; it counts as explained then.
    fn is_listen(&mut self, callee: &ast::Expression<'_>) -> bool {
        let ast::Expression::StaticMemberExpression(member) = callee else {
            return false;
        };
        member.property.name == "listen" && self.is_global(&member.object)
    }

    fn listen(&mut self, call: &ast::CallExpression<'_>) {
        let key = call
            .arguments
            .first()
            .and_then(ast::Argument::as_expression);
        let Some(event) = key.and_then(text) else {
            self.faults.push((call.span.start, KEY));
            return;
        };
        let filter = match call.arguments.get(1) {
            None => None,
            Some(options) => match options.as_expression().and_then(filter) {
                Some(filter) => filter,
                None => {
                    self.faults.push((call.span.start, OPTIONS));
                    return;
                }
            },
        };
        self.listens.push(Listen { event, filter });
    }
}

impl<'a> Visit<'a> for Finder {
    fn visit_call_expression(&mut self, it: &ast::CallExpression<'a>) {
        if self.is_listen(&it.callee) {
            self.listen(it);
            // The callee is explained; what stands in the arguments is not.
            self.visit_arguments(&it.arguments);
            return;
        }
        walk::walk_call_expression(self, it);
    }

    fn visit_static_member_expression(&mut self, it: &ast::StaticMemberExpression<'a>) {
        let of_event = self.is_global(&it.object);
        if it.property.name == "listen" {
            self.names_listen = true;
            if of_event {
                self.faults.push((it.span.start, USE));
            }
        }
        walk::walk_static_member_expression(self, it);
    }

    fn visit_string_literal(&mut self, it: &ast::StringLiteral<'a>) {
        self.names_listen |= it.value == "listen";
    }

    fn visit_identifier_name(&mut self, it: &ast::IdentifierName<'a>) {
        self.names_listen |= it.name == "listen";
    }

    fn visit_identifier_reference(&mut self, it: &ast::IdentifierReference<'a>) {
        let reference = it.reference_id.get();
        if reference.is_some_and(|reference| self.global.contains(&reference)) {
            self.aliases.push((it.span.start, USE));
        }
    }
}

/// A text that is written as one.
fn text(expression: &ast::Expression<'_>) -> Option<String> {
    match expression {
        ast::Expression::StringLiteral(text) => Some(text.value.to_string()),
        ast::Expression::TemplateLiteral(text) if text.expressions.is_empty() => {
            let only = text.quasis.first()?;
            Some(only.value.cooked.as_ref()?.to_string())
        }
        _ => None,
    }
}

/// The filter of `{ filter: "…" }` or `{}`; `None` if it is anything else.
fn filter(expression: &ast::Expression<'_>) -> Option<Option<String>> {
    let ast::Expression::ObjectExpression(object) = expression else {
        return None;
    };
    let mut found = None;
    for property in &object.properties {
        let ast::ObjectPropertyKind::ObjectProperty(property) = property else {
            return None;
        };
        if property.computed || property.key.static_name()? != "filter" {
            return None;
        }
        found = Some(text(&property.value)?);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use crate::program::{ContentType, Listen, compile};
    use std::collections::BTreeMap;

    fn read(body: &str) -> Result<Vec<Listen>, String> {
        let source = format!("{body}\nexport default async () => {{}};");
        let compiled = compile("p.ts", ContentType::Ts, &source, &BTreeMap::new());
        compiled
            .map(|program| program.listens)
            .map_err(|faults| faults[0].message.clone())
    }

    fn listen(event: &str, filter: Option<&str>) -> Listen {
        Listen {
            event: event.into(),
            filter: filter.map(Into::into),
        }
    }

    #[test]
    fn calls_are_found_wherever_they_stand() {
        let found = read(
            r#"event.listen("a");
            async function inner() { const m = event.listen(`b`, { filter: 'payload.x == 1' }) as any; }
            event.listen("c", {});"#,
        );
        let expected = [
            listen("a", None),
            listen("b", Some("payload.x == 1")),
            listen("c", None),
        ];
        assert_eq!(found.unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_read_without_running_it_is_refused() {
        for (body, named) in [
            ("const k = 'a'; event.listen(k);", "key"),
            ("event.listen('a' + 'b');", "key"),
            ("event.listen();", "key"),
            ("event.listen('a', { filter: String(1) });", "filter"),
            ("event.listen('a', { ...{} });", "filter"),
            ("const o = {}; event.listen('a', o);", "filter"),
            ("const e = event; e.listen('a');", "in place"),
            ("event['listen']('a');", "in place"),
            ("const { listen } = event; listen('a');", "in place"),
            ("const l = event.listen; l('a');", "in place"),
        ] {
            let told = read(body).unwrap_err();
            assert!(told.contains(named), "{body}: {told}");
        }
    }

    #[test]
    fn whatever_else_is_done_with_event_is_not_in_the_way() {
        let body = "event.emit('x', {}); const { emit } = event; emit('y'); console.log(event);";
        assert_eq!(read(body), Ok(vec![]));
    }

    #[test]
    fn a_variable_of_that_name_is_the_authors() {
        let body = "function on(event: any) { return event.listen(event.key); } on({});
            for (const event of []) { console.log(event); }";
        assert_eq!(read(body), Ok(vec![]));
    }
}
