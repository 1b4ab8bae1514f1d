//! How failures are told.

use crate::support::Case;
use pocketci_agent::js::JobEnd;

#[test]
fn an_error_names_itself_its_lines_and_shows_the_code() {
    let ran = Case::new("const helper = (x) => {\n  return x.y.z;\n};\nexport const pipeline = async () => {\n  helper({});\n};\n").run();
    let message = ran.failed();
    assert!(message.starts_with("TypeError: "), "{message}");
    assert!(message.contains("at helper (main.js:2:"), "{message}");
    assert!(message.contains("at pipeline (main.js:5:"), "{message}");
    assert!(message.contains("> 2 |   return x.y.z;"), "{message}");
}

#[test]
fn positions_are_the_authors_when_there_is_a_source_map() {
    // Line 1 column 1 of the JavaScript is line 4 column 3 of the source.
    let mut builder = sourcemap::SourceMapBuilder::new(Some("main.js"));
    builder.add(2, 0, 40, 2, Some("main.ts"), None, false);
    let source = builder.add_source("main.ts");
    let text: String = (1..=45).map(|line| format!("  line {line};\n")).collect();
    builder.set_source_contents(source, Some(&text));
    let mut map = Vec::new();
    builder.into_sourcemap().to_writer(&mut map).unwrap();
    let mut case =
        Case::new("export const pipeline = async () => {\n\nthrow new Error('typed');\n};");
    case.program.file_name = "main.ts".into();
    case.program.source_map = Some(String::from_utf8(map).unwrap());
    case.program.source = text;
    let ran = case.run();
    let message = ran.failed();
    assert!(
        message.starts_with("Error: typed\n    at pipeline (main.ts:41:3)"),
        "{message}"
    );
    assert!(
        message.contains("> 41 |   line 41;\n     |   ^"),
        "{message}"
    );
}

#[test]
fn causes_are_told() {
    let ran =
        Case::body("try { null.x } catch (cause) { throw new Error('outer', { cause }) }").run();
    let message = ran.failed();
    assert!(
        message.contains("Error: outer") && message.contains("caused by: TypeError: "),
        "{message}"
    );
}

#[test]
fn anything_can_be_thrown() {
    for (thrown, told) in [
        ("'text'", "thrown: 'text'"),
        ("undefined", "thrown: undefined"),
        ("null", "thrown: null"),
        ("{ code: 5 }", "thrown: { code: 5 }"),
        ("Symbol('s')", "thrown: Symbol(s)"),
        ("Object.assign(new Error('e'), { name: 'Mine' })", "Mine: e"),
        (
            "new (class extends Error { get message() { throw 1 } })",
            "Error",
        ),
        (
            "new Proxy(new Error('p'), { get() { throw 1 } })",
            "thrown: Error",
        ),
        (
            "Object.defineProperty(new Error('x'), 'stack', { get() { throw 2 } })",
            "Error: x",
        ),
    ] {
        for body in [
            format!("throw {thrown};"),
            format!("await null; throw {thrown};"),
        ] {
            let ran = Case::body(&body).run();
            assert!(ran.failed().contains(told), "{body}: {}", ran.failed());
        }
    }
}

#[test]
fn a_syntax_error_names_its_line() {
    let ran = Case::new("const a = 1;\nconst = 2;\n").run();
    let message = ran.failed();
    assert!(
        message.starts_with("SyntaxError: ") && message.contains("main.js:2"),
        "{message}"
    );
    assert!(message.contains("> 2 | const = 2;"), "{message}");
}

#[test]
fn source_text_of_any_kind_is_harmless() {
    for source in [
        "\0",
        "export const pipeline = () => {}\0",
        "\u{feff}",
        "#!shebang",
        "import 'x'; export default () => {}",
    ] {
        let ran = Case::new(source).run();
        assert!(
            matches!(ran.end, JobEnd::Failed { .. }),
            "{source:?}: {:?}",
            ran.end
        );
    }
}

#[test]
fn a_missing_or_wrong_export_is_explained() {
    assert!(
        Case::new("const pipeline = 1;")
            .run()
            .failed()
            .contains("exports no pipeline")
    );
    let ran = Case::new("export const pipeline = { a: 1 };").run();
    assert!(
        ran.failed()
            .contains("is an object: a function is expected"),
        "{}",
        ran.failed()
    );
    Case::new("export default async () => {};")
        .run()
        .succeeded();
    Case::new("export const pipeline = () => {}; export default 5;")
        .run()
        .succeeded();
    let ran = Case::new("export { pipeline }; throw new Error('top'); const pipeline = 1;").run();
    assert!(ran.failed().starts_with("Error: top"), "{}", ran.failed());
}

#[test]
fn an_unhandled_rejection_fails_the_job() {
    let ran = Case::body("Promise.reject(new Error('lost'));").run();
    assert!(
        ran.failed().starts_with("unhandled rejection: Error: lost"),
        "{}",
        ran.failed()
    );
    // Handled later is handled.
    Case::body("const p = Promise.reject(1); await null; await null; p.catch(() => {});")
        .run()
        .succeeded();
    // The pipeline's own failure comes first, the other is in the log.
    let ran = Case::body("Promise.reject(new Error('second')); throw new Error('first');").run();
    assert!(ran.failed().starts_with("Error: first"), "{}", ran.failed());
    assert!(
        ran.system().contains("unhandled rejection: Error: second"),
        "{}",
        ran.system()
    );
    // Thousands are counted, not kept.
    let ran = Case::body("for (let i = 0; i < 5000; i++) Promise.reject(i);").run();
    assert!(ran.failed().contains("thrown: 0"), "{}", ran.failed());
    assert!(
        ran.system().contains("4900 more unhandled rejections"),
        "{}",
        ran.system()
    );
}

#[test]
fn an_exception_in_a_timer_fails_the_job() {
    let ran =
        Case::body("setTimeout(() => { throw new Error('late') }, 1); setInterval(() => {}, 1);")
            .run();
    assert!(
        ran.failed().starts_with("uncaught exception: Error: late"),
        "{}",
        ran.failed()
    );
}
