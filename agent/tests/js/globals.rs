//! `console`, `pipelineContext`, and what is not there.

use crate::support::Case;
use pocketci_agent::js::host::ConsoleStream;

#[test]
fn console_writes_lines_to_the_right_stream() {
    let ran = Case::body("console.log('a'); console.info('b'); console.debug('c'); console.warn('d'); console.error('e'); console.log();").run().succeeded();
    assert_eq!(ran.stdout(), "a\nb\nc\n\n");
    assert_eq!(ran.lines(ConsoleStream::Stderr), "d\ne\n");
}

#[test]
fn console_formats_as_node_does() {
    for (arguments, line) in [
        ("'%s is %d years', 'Bob', 42, 'x'", "Bob is 42 years x"),
        ("'%i %f %d', 42.9, '1.5', 'x'", "42 1.5 NaN"),
        ("'%j %o', { a: 1 }, { b: [1] }", "{\"a\":1} { b: [ 1 ] }"),
        ("'100%% %s %x %', 1", "100% 1 %x %"),
        ("'%%s %s', 1", "%s 1"),
        ("'%s'", "%s"),
        ("'%c styled', 'color: red'", " styled"),
        (
            "'a', 1, true, null, undefined, 10n, -0, 1.5, NaN",
            "a 1 true null undefined 10n -0 1.5 NaN",
        ),
        ("Symbol('s'), Symbol()", "Symbol(s) Symbol()"),
        (
            "{ a: 1, 'b-c': 'x', f() {} }, []",
            "{ a: 1, 'b-c': 'x', f: [Function: f] } []",
        ),
        ("[1, 'two', [3], , 5]", "[ 1, 'two', [ 3 ], <empty>, 5 ]"),
        (
            "new Map([['a', { b: 1 }]]), new Set([1])",
            "Map(1) { 'a' => { b: 1 } } Set(1) { 1 }",
        ),
        ("new (class Foo { x = 1 })", "Foo { x: 1 }"),
        ("Object.create(null)", "[Object: null prototype] {}"),
        (
            "new Uint8Array([1, 2]), new ArrayBuffer(3)",
            "Uint8Array(2) [ 1, 2 ] ArrayBuffer { byteLength: 3 }",
        ),
        (
            "new Date(0), /a+/g, Promise.resolve(1)",
            "1970-01-01T00:00:00.000Z /a+/g Promise { <resolved> }",
        ),
        ("new Date(NaN)", "Invalid Date"),
        (
            "{ get a() { throw 1 }, set b(v) {} }",
            "{ a: [Getter], b: [Setter] }",
        ),
        (
            "new Proxy({ a: 1 }, { get() { throw 1 }, ownKeys() { throw 1 } })",
            "{ a: 1 }",
        ),
        ("[[[[[[1]]]]]]", "[ [ [ [ [Array] ] ] ] ]"),
        (
            "(() => { const o = { n: 1 }; o.o = o; return o })()",
            "{ n: 1, o: [Circular] }",
        ),
        (
            "class A {}, () => {}",
            "[Function: A] [Function (anonymous)]",
        ),
        ("'it\\'s', [\"it's\"]", "it's [ \"it's\" ]"),
        ("'\\ud800x'", "\u{fffd}x"),
    ] {
        let ran = Case::body(&format!("console.log({arguments});"))
            .run()
            .succeeded();
        assert_eq!(ran.stdout(), format!("{line}\n"), "{arguments}");
    }
}

#[test]
fn console_breaks_large_objects_into_lines_and_cuts_huge_ones() {
    let ran = Case::body(
        "console.log({ first: 'x'.repeat(50), second: { third: 'y'.repeat(50), n: [1] } })",
    )
    .run()
    .succeeded();
    assert!(
        ran.stdout().starts_with("{\n  first: 'xxx"),
        "{}",
        ran.stdout()
    );
    assert!(
        ran.stdout().contains("\n  second: { third:")
            || ran.stdout().contains("\n  second: {\n    third:"),
        "{}",
        ran.stdout()
    );
    let ran = Case::body("console.log('x'.repeat(5 << 20)); console.log(Array(1e6).fill('y'.repeat(1e5))); console.log(Array(200).fill(1))").run().succeeded();
    let console = ran.host.console.lock().unwrap();
    assert!(
        console
            .iter()
            .all(|(_, line)| line.len() < (1 << 20) + 100_000),
        "cut"
    );
    assert!(console[2].1.contains("… 100 more"), "{}", console[2].1);
}

#[test]
fn console_shows_errors_with_their_stack() {
    let ran =
        Case::body("console.log(new TypeError('t')); console.log({ e: new Error('inner') });")
            .run()
            .succeeded();
    assert!(
        ran.stdout()
            .starts_with("TypeError: t\n    at pipeline (main.js:2:"),
        "{}",
        ran.stdout()
    );
    assert!(ran.stdout().contains("e: Error: inner"), "{}", ran.stdout());
}

#[test]
fn the_context_tells_about_the_run_and_is_frozen() {
    let ran = Case::body(
        "console.log(JSON.stringify(pipelineContext));
         for (const change of [() => { pipelineContext.runID = 'x' }, () => { pipelineContext.n = 1 }, () => pipelineContext.args.push('c')])
           try { change(); console.log('changed') } catch (e) { console.log(e.name) }",
    )
    .run()
    .succeeded();
    assert_eq!(
        ran.stdout(),
        "{\"runID\":\"r\",\"pipelineID\":\"p\",\"name\":\"demo\",\"pipelineName\":\"demo\",\"triggeredBy\":\"manual\",\
         \"args\":[\"a\",\"b\"],\"targetJobs\":[],\"driverName\":\"native\",\"attempt\":1}\nTypeError\nTypeError\nTypeError\n"
    );
}

#[test]
fn a_trigger_expression_must_be_a_string() {
    let ran = Case::body("webhookTrigger(5)").run();
    assert!(
        ran.failed().contains(
            "TypeError: webhookTrigger: an expression (string) is expected, got a number"
        ),
        "{}",
        ran.failed()
    );
}

#[test]
fn there_is_no_way_out_to_the_machine() {
    let ran = Case::body("console.log(typeof std, typeof os, typeof require, typeof process, typeof print, typeof scriptArgs)").run().succeeded();
    assert_eq!(
        ran.stdout(),
        "undefined undefined undefined undefined undefined undefined\n"
    );
    for module in ["std", "os", "fs", "./other.js", "/etc/passwd"] {
        let ran = Case::body(&format!("await import('{module}')")).run();
        assert!(
            ran.failed().contains("cannot be imported"),
            "{module}: {}",
            ran.failed()
        );
    }
}
