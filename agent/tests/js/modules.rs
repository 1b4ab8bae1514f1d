//! Imported files: one engine, many modules, positions in each.

use crate::support::Case;
use pocketci_agent::js::Program;
use pocketci_pipeline::program::{ContentType, compile};
use std::collections::BTreeMap;

fn case(source: &str, files: &[(&str, &str)]) -> Case {
    let files: BTreeMap<String, String> = files
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect();
    let compiled = compile("main.ts", ContentType::Ts, source, &files).expect("it compiles");
    let mut case = Case::new("");
    case.program = Program {
        file_name: "main.ts".into(),
        javascript: compiled.javascript,
        source_map: Some(compiled.source_map),
        source: source.into(),
        modules: compiled
            .modules
            .into_iter()
            .map(|module| pocketci_agent::js::Module {
                name: module.name,
                javascript: module.javascript,
                source_map: Some(module.source_map).filter(|map| !map.is_empty()),
                source: module.source,
            })
            .collect(),
    };
    case
}

#[test]
fn modules_and_data_are_imported_and_cycles_work() {
    let ran = case(
        "import { twice } from './lib/math.js'; import data from './data.json'; import * as conf from './conf.yaml';\n\
         export const name = 'main';\n\
         export const pipeline = () => console.log(twice(data.n), conf.default.list.join('+'));",
        &[
            ("lib/math.ts", "import { name } from '../main.ts'; export function twice(n: number): string { return name + 2 * n; }"),
            ("data.json", "{\"n\": 21}"),
            ("conf.yaml", "list: [a, b]"),
        ],
    )
    .run()
    .succeeded();
    assert_eq!(ran.stdout(), "main42 a+b\n");
}

#[test]
fn an_error_in_an_imported_file_names_that_file_and_line() {
    let ran = case(
        "import { fail } from './lib/fail';\nexport default async () => { await null;\n  fail(); };",
        &[("lib/fail.ts", "type T = string;\n\nexport const fail = (): T => {\n  throw new Error('broken');\n};")],
    )
    .run();
    let message = ran.failed();
    assert!(message.contains("lib/fail.ts:4:"), "{message}");
    assert!(message.contains("main.ts:3:"), "{message}");
    assert!(
        message.contains("> 4 |   throw new Error('broken');"),
        "{message}"
    );
}

#[test]
fn a_throw_while_a_module_loads_fails_the_job() {
    let ran = case(
        "import './a'; export default () => {};",
        &[("a.ts", "throw new Error('at the top');")],
    )
    .run();
    assert!(ran.failed().contains("at the top"), "{}", ran.failed());
}
