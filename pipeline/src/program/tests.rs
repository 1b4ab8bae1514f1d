//! The rules of compiling a pipeline file.

use super::*;

fn ts(source: &str) -> Result<Program, Vec<Diagnostic>> {
    compile("hello.ts", ContentType::Ts, source, &BTreeMap::new())
}

#[track_caller]
fn js_of(source: &str) -> String {
    ts(source)
        .unwrap_or_else(|found| panic!("{found:?}"))
        .javascript
}

#[track_caller]
fn fault_of(source: &str) -> Diagnostic {
    ts(source).expect_err("it is faulty").remove(0)
}

#[test]
fn types_go_and_the_module_stays() {
    let javascript = js_of(
        "interface A { x: number }\ntype B = A | null;\nconst a = { x: 1 } as A satisfies B;\n\
             const pipeline = async (n?: number): Promise<void> => { await runtime.run({ name: `${a!.x}` }); };\n\
             export { pipeline };\nexport type { B };\n",
    );
    assert!(javascript.contains("export { pipeline }"), "{javascript}");
    for gone in ["interface", "Promise", "satisfies", " as ", "type B"] {
        assert!(!javascript.contains(gone), "{gone} in {javascript}");
    }
}

#[test]
fn enums_namespaces_and_parameter_properties_become_javascript() {
    let javascript = js_of(
        "enum Color { Red, Green = 5 }\nnamespace N { export const x = 1; }\n\
             class C { constructor(private readonly y: number) {} get() { return this.y; } }\n\
             export default async () => { console.log(Color.Red, N.x, new C(1).get()); };",
    );
    assert!(
        javascript.contains("Color[\"Red\"]") || javascript.contains("Color[Color"),
        "{javascript}"
    );
    assert!(javascript.contains("this.y = y"), "{javascript}");
    assert!(
        !javascript.contains("namespace") && !javascript.contains("enum "),
        "{javascript}"
    );
}

#[test]
fn modern_syntax_is_kept() {
    let javascript = js_of(
        "const f = async (a) => a?.b ?? (a ||= 1n);\nclass P { #x = 1; static { this.y = 2; } has(o) { return #x in o; } }\n\
             for await (const x of f()) { x; }\nexport const pipeline = f;",
    );
    for kept in ["?.", "??", "||=", "1n", "#x", "static {", "for await"] {
        assert!(javascript.contains(kept), "{kept} not in {javascript}");
    }
}

#[test]
fn every_form_of_export_counts() {
    for source in [
        "export const pipeline = async () => {};",
        "export async function pipeline() {}",
        "const p = 1; export { p as pipeline };",
        "const p = 1; export { p as default };",
        "export default async () => {};",
        "export default function () {}",
        "export const { pipeline } = { pipeline() {} };",
    ] {
        assert!(ts(source).is_ok(), "{source}");
    }
}

#[test]
fn a_file_without_a_pipeline_is_told_what_to_add() {
    for source in [
        "",
        "const pipeline = async () => {};",
        "export const other = 1;",
        "type pipeline = 1; export type { pipeline };",
        "export interface pipeline {}",
    ] {
        let fault = fault_of(source);
        assert!(
            fault
                .message
                .starts_with("exports no pipeline: add `export { pipeline };` or"),
            "{source}: {fault}"
        );
        assert_eq!((fault.line, fault.column), (1, 1));
    }
}

#[test]
fn another_module_is_refused_with_its_place() {
    let fault =
        fault_of("const x = 1;\n  import { a } from './x';\nexport const pipeline = () => a;");
    assert_eq!(
        fault.to_string().lines().next(),
        Some("hello.ts:2:3: './x' cannot be imported: there is no file x")
    );
    for source in [
        "import './x'; export default () => {};",
        "export * from './x'; export default () => {};",
        "export { pipeline } from './x';",
        "export default async () => { await import('./x'); };",
        "export default async () => { await import(name()); };",
        "import x = require('./x'); export default () => x;",
    ] {
        assert!(ts(source).is_err(), "{source}");
    }
}

#[test]
fn all_imports_are_reported_at_once() {
    let faults = ts("import a from './a';\nimport b from './b';\nexport default () => [a, b];")
        .expect_err("two");
    assert_eq!(
        faults.iter().map(|fault| fault.line).collect::<Vec<_>>(),
        [1, 2]
    );
}

#[test]
fn imports_of_types_only_are_gone() {
    let javascript = js_of(
        "import type { A } from './a';\nimport { type B } from './b';\nimport { C } from './c';\n\
             export default async (a: A, b: B, c: C) => {};",
    );
    assert!(!javascript.contains("import"), "{javascript}");
}

#[test]
fn syntax_errors_say_where_they_are() {
    let fault = fault_of("const a = 1;\nconst b = ;\nexport default () => {};\n");
    assert_eq!((fault.line, fault.column), (2, 11), "{fault}");
    assert!(
        fault.frame.contains("> 2 | const b = ;\n    |           ^"),
        "{fault}"
    );
}

#[test]
fn errors_of_meaning_are_all_reported() {
    let faults = ts("let a = 1;\nlet a = 2;\nlet b = 1;\nlet b = 2;\nexport default () => {};")
        .expect_err("twice declared");
    assert_eq!(faults.len(), 2, "{faults:?}");
}

#[test]
fn javascript_takes_the_same_way() {
    let program = compile(
        "hello.js",
        ContentType::Js,
        "export const pipeline = async () => 1;",
        &BTreeMap::new(),
    )
    .expect("it is fine");
    assert!(program.javascript.contains("pipeline"));
}

#[test]
fn yaml_is_refused_clearly() {
    let faults =
        compile("p.yml", ContentType::Yaml, "jobs: []", &BTreeMap::new()).expect_err("not yet");
    assert_eq!(
        faults[0].to_string(),
        "p.yml:1:1: YAML pipelines are not supported by this version"
    );
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let source = " ".repeat(MAX_SOURCE_BYTES + 1);
    assert!(
        fault_of(&source).message.contains("more than the 1048576"),
        "{}",
        fault_of(&source)
    );
}

#[test]
fn too_many_nesting_points_are_refused() {
    let source = "(".repeat(MAX_NESTING_POINTS + 1);
    assert!(fault_of(&source).message.contains("too complex"));
}

#[test]
fn deep_nesting_cannot_overflow_the_stack() {
    const DEEP: usize = 3_000;
    for (open, middle, close) in [
        ("(", "1", ")"),
        ("[", "", "]"),
        ("{", "", "}"),
        ("x = {a:", "1", "}"),
        ("!", "1", ""),
        ("- ", "1", ""),
        ("typeof ", "1", ""),
        ("new ", "a", ""),
        ("a => ", "1", ""),
        ("1 + ", "1", ""),
        ("a.", "b", ""),
        ("f(", "", ")"),
        ("if (1) ", ";", ""),
        ("a ? b : ", "c", ""),
        ("`${", "1", "}`"),
        ("a?.", "b", ""),
        ("a = ", "b", ""),
        ("a, ", "b", ""),
        ("a: ", ";", ""),
        ("while (1) ", ";", ""),
        ("1 ** ", "1", ""),
        ("a && ", "b", ""),
        ("a ?? ", "b", ""),
        ("async () => ", "1", ""),
        ("let x: [", "1", "]"),
        ("<T>", "a", ""),
        ("type A = B<", "c", ">;"),
        ("type A = a extends b ? c : ", "d", ";"),
        ("let y: ", "a", "[]"),
        ("@a(", "b", ")"),
        ("(function(){", "", "})()"),
        ("class A { x = ", "1", "}"),
        ("/(", "a", ")/"),
        ("a as ", "b", ""),
        ("a!", ";", ""),
        ("a[", "0", "]"),
        ("try {", "", "} catch {}"),
        ("a`", "b", "`"),
        ("namespace A {", "", "}"),
        ("do ", ";", " while (1)"),
        ("for (;;) ", ";", ""),
        ("await ", "1", ""),
    ] {
        let source = format!("{}{middle}{}", open.repeat(DEEP), close.repeat(DEEP));
        let _ = ts(&source);
        let _ = ts(&format!("{source}\nexport default () => {{}};"));
    }
}

#[test]
fn odd_files_are_no_panic() {
    for source in [
        "\0",
        "\u{feff}export default 1",
        "#!/bin/x\nexport default 1",
        "\"use strict",
        "/*",
        "`${",
        "\u{2028}}",
        "export",
        "import",
    ] {
        let _ = ts(source);
    }
}

#[test]
fn content_types_are_read_from_names() {
    assert_eq!(ContentType::from_file_name("a.b.TS"), Some(ContentType::Ts));
    assert_eq!(
        ContentType::from_file_name("p.yml"),
        Some(ContentType::Yaml)
    );
    assert_eq!(ContentType::from_file_name("p.tsx"), None);
    assert_eq!("js".parse(), Ok(ContentType::Js));
    assert_eq!(
        "tsx"
            .parse::<ContentType>()
            .expect_err("not known")
            .to_string(),
        "unknown content type \"tsx\": expected ts, js or yaml"
    );
}

fn files(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect()
}

#[test]
fn what_is_imported_is_compiled_once_each_and_nothing_else_is() {
    let brought = files(&[
        (
            "lib/a.ts",
            "import { b } from './b'; export const a: number = b;",
        ),
        ("lib/b.ts", "import './a'; export const b = 1;"),
        ("data.json", "{\"x\": 1}"),
        ("unused.ts", "this is no program"),
    ]);
    let source = "import { a } from './lib/a'; import d from './data.json'; import type { T } from './types'; export default () => a + d.x;";
    let program = compile("main.ts", ContentType::Ts, source, &brought).expect("it compiles");
    let names: Vec<&str> = program
        .modules
        .iter()
        .map(|module| module.name.as_str())
        .collect();
    assert_eq!(names, ["lib/a.ts", "data.json", "lib/b.ts"]);
    assert!(program.modules[0].source_map.contains("lib/a.ts"));
    assert!(!program.modules[0].javascript.contains("number"));
    assert_eq!(
        imports("main.ts", source).expect("it parses"),
        ["./lib/a", "./data.json"]
    );
}

#[test]
fn faults_of_imported_files_name_those_files() {
    let brought = files(&[("a.ts", "export const a = ;"), ("b.yaml", "x: [1")]);
    let source = "import './a'; import b from './b.yaml'; import 'lodash'; export default () => b;";
    let faults = compile("main.ts", ContentType::Ts, source, &brought).expect_err("three faults");
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert!(
        told.iter()
            .any(|fault| fault.contains("'lodash' cannot be imported")),
        "{told:?}"
    );
    let source = "import './a'; import b from './b.yaml'; export default () => b;";
    let faults = compile("main.ts", ContentType::Ts, source, &brought).expect_err("two faults");
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert!(
        told.iter().any(|fault| fault.starts_with("a.ts:1:18:")),
        "{told:?}"
    );
    assert!(
        told.iter().any(|fault| fault.starts_with("b.yaml:1:1:")),
        "{told:?}"
    );
}
