//! `runtime.run`: what goes out, what comes back, what is refused.

use crate::support::{Case, result};
use bytes::Bytes;
use pocketci_agent::container::OutputStream;
use pocketci_agent::js::host::RunResult;
use std::collections::BTreeMap;
use std::time::Duration;

#[test]
fn everything_the_author_says_reaches_the_host() {
    let ran = Case::body(
        "await runtime.run({
           name: 'n', image: 'alpine', command: { path: 'sh', args: ['-c', 'true'], user: '1000' },
           env: { A: '1', B: '' }, stdin: 'in', workDir: '/w', privileged: true, timeout: '1h30m',
           containerLimits: { cpu: 512, memory: '512MB' }, unknown: Symbol('x'), mounts: {}, caches: [],
         });
         await runtime.run({ stdin: new Uint8Array([0, 255]), timeout: 1500, containerLimits: { memory: 1024 } });
         await runtime.run({ stdin: '', timeout: '', env: null, command: undefined });",
    )
    .run()
    .succeeded();
    let requests = ran.requests();
    let first = &requests[0];
    assert_eq!(
        (
            first.name.as_str(),
            first.image.as_str(),
            first.path.as_str()
        ),
        ("n", "alpine", "sh")
    );
    assert_eq!(
        (
            first.args.join(" ").as_str(),
            first.user.as_str(),
            first.work_dir.as_str()
        ),
        ("-c true", "1000", "/w")
    );
    assert_eq!(
        first.env,
        BTreeMap::from([("A".into(), "1".into()), ("B".into(), String::new())])
    );
    assert_eq!(
        (first.cpu_shares, first.memory_bytes, first.privileged),
        (512, 512 << 20, true)
    );
    assert_eq!(
        (first.timeout, first.stdin.as_deref()),
        (Some(Duration::from_secs(5400)), Some(&b"in"[..]))
    );
    assert!(first.output.is_none());
    assert_eq!(requests[1].stdin, Some(Bytes::from_static(&[0, 255])));
    assert_eq!(
        (requests[1].timeout, requests[1].memory_bytes),
        (Some(Duration::from_millis(1500)), 1024)
    );
    assert_eq!(
        (requests[2].stdin.as_ref(), requests[2].timeout),
        (None, None)
    );
}

#[test]
fn a_result_has_code_output_and_status_and_a_code_does_not_reject() {
    let ran = Case::body("console.log(JSON.stringify(await runtime.run({})))")
        .step(|_| Box::pin(async { Ok(result(7, "o\u{0}", "é")) }))
        .run()
        .succeeded();
    assert_eq!(
        ran.stdout(),
        "{\"code\":7,\"stdout\":\"o\\u0000\",\"stderr\":\"é\",\"status\":\"complete\",\
         \"startedAt\":\"2026-01-01T00:00:00Z\",\"endedAt\":\"2026-01-01T00:00:01Z\",\"durationMs\":1000,\"attempts\":1}\n"
    );
    let ran = Case::body("console.log((await runtime.run({ timeout: '1ms' })).status)")
        .step(|_| {
            Box::pin(async {
                Ok(RunResult {
                    status: "abort",
                    ..result(0, "", "")
                })
            })
        })
        .run()
        .succeeded();
    assert_eq!(ran.stdout(), "abort\n");
}

#[test]
fn a_failing_host_rejects_with_the_line_of_the_call() {
    let ran = Case::body("await null;\nawait runtime.run({ name: 'x' });")
        .step(|_| Box::pin(async { Err("image \"x\" cannot be pulled".into()) }))
        .run();
    let message = ran.failed();
    assert!(
        message.starts_with("Error: image \"x\" cannot be pulled\n"),
        "{message}"
    );
    assert!(
        message.contains("main.js:3:") && message.contains("> 3 | await runtime.run"),
        "{message}"
    );
}

#[test]
fn wrong_arguments_reject_and_say_what_was_expected() {
    for (argument, told) in [
        ("", "an object is expected"),
        ("null", "an object is expected"),
        ("'x'", "an object is expected, got a string"),
        ("[]", "an object is expected, got an array"),
        ("{ name: 5 }", "name must be a string, got number"),
        ("{ image: {} }", "image must be a string, got an object"),
        ("{ command: 'ls' }", "command must be an object, got string"),
        (
            "{ command: { args: 5 } }",
            "command.args must be an array of strings, got number",
        ),
        (
            "{ command: { args: 'x' } }",
            "command.args must be an array of strings, got string",
        ),
        (
            "{ command: { args: ['a', 5] } }",
            "command.args[1] must be a string, got number",
        ),
        (
            "{ command: { path: ['a'] } }",
            "command.path must be a string, got an array",
        ),
        (
            "{ command: { args: Array(10001).fill('') } }",
            "command.args has more than 10000",
        ),
        ("{ env: [] }", "env must be an object, got an array"),
        ("{ env: { A: 1 } }", "env.A must be a string, got number"),
        (
            "{ env: { 'A=B': '1' } }",
            "cannot be the name of a variable",
        ),
        ("{ env: { A: 'a\\0b' } }", "NUL"),
        (
            "{ env: { A: 'x'.repeat(17 << 20) } }",
            "more than 16777216 bytes",
        ),
        (
            "{ stdin: 5 }",
            "stdin must be a string or a Uint8Array, got number",
        ),
        (
            "{ stdin: 'x'.repeat(17 << 20) }",
            "stdin has 17825792 bytes",
        ),
        ("{ timeout: 'soon' }", "timeout \"soon\" is not a duration"),
        ("{ timeout: '-5s' }", "timeout \"-5s\" is not a duration"),
        ("{ timeout: -1 }", "timeout -1 is not a duration"),
        ("{ timeout: Infinity }", "timeout inf is not a duration"),
        ("{ timeout: {} }", "timeout must be a duration"),
        (
            "{ privileged: 'yes' }",
            "privileged must be a boolean, got string",
        ),
        (
            "{ containerLimits: { cpu: '1' } }",
            "containerLimits.cpu must be a number, got string",
        ),
        (
            "{ containerLimits: { cpu: 1.5 } }",
            "containerLimits.cpu must be a whole number",
        ),
        (
            "{ containerLimits: { memory: 'lots' } }",
            "containerLimits.memory must be",
        ),
        (
            "{ containerLimits: { memory: -1 } }",
            "containerLimits.memory must be",
        ),
        ("{ onOutput: 5 }", "onOutput must be a function, got number"),
        (
            "{ mounts: { a: 1 } }",
            "mounts[\"a\"] must be a volume, got number",
        ),
        ("{ mounts: { a: {} } }", "mounts[\"a\"] names no volume"),
        ("{ mounts: { '../a': 'v' } }", "a path without \"..\""),
        ("{ pull: 'sometimes' }", "pull must be \"missing\""),
        ("{ network: 'no' }", "network must be a boolean"),
        ("{ retries: -1 }", "retries must be a whole number"),
        (
            "{ retries: 101 }",
            "retries must be a whole number up to 100",
        ),
        ("{ registryAuth: 'me' }", "registryAuth must be an object"),
        ("{ failOnError: 1 }", "failOnError must be a boolean"),
    ] {
        let ran = Case::body(&format!(
            "const p = runtime.run({argument}); console.log(p instanceof Promise); await p;"
        ))
        .run();
        let message = ran.failed();
        assert!(
            message.starts_with("TypeError: runtime.run: "),
            "{argument}: {message}"
        );
        assert!(
            message.contains(told) && message.contains("main.js:2:"),
            "{argument}: {message}"
        );
        assert_eq!(ran.stdout(), "true\n");
        assert!(ran.requests().is_empty(), "{argument}");
    }
}

#[test]
fn hostile_arguments_only_hurt_their_author() {
    for argument in [
        "{ get name() { throw new Error('g') } }",
        "new Proxy({}, { get() { throw new Error('g') } })",
        "{ env: new Proxy({}, { ownKeys() { throw new Error('g') } }) }",
        "{ command: { get args() { throw new Error('g') } } }",
    ] {
        let ran = Case::body(&format!("await runtime.run({argument})")).run();
        assert!(
            ran.failed().starts_with("Error: g"),
            "{argument}: {}",
            ran.failed()
        );
    }
    // Prototypes and constructors replaced by junk: any end will do, but an end.
    let ran = Case::body(
        "const r = runtime.run; globalThis.Error = globalThis.Object = globalThis.Promise = 5;
         Array.prototype.push = Object.prototype.toString = Function.prototype.call = () => { throw 1 };
         Error.prepareStackTrace = () => { throw 2 };
         console.log({ a: 1 }, [1], new Map([[1, 2]])); await r({ name: 'x' });",
    )
    .run();
    drop(ran);
}

#[test]
fn output_arrives_in_order_on_the_pipelines_thread_before_the_result() {
    let ran = Case::body(
        "const seen = [];
         const r = await runtime.run({ onOutput: (stream, data) => { seen.push(`${stream}:${data}`); if (data === 'b') throw new Error('cb'); } });
         console.log(seen.join(), r.code);",
    )
    .step(|request| {
        Box::pin(async move {
            let sink = request.output.unwrap();
            sink.send(OutputStream::Stdout, Bytes::from_static(b"a")).await;
            sink.send(OutputStream::Stderr, Bytes::from_static(b"b")).await;
            sink.send(OutputStream::Stdout, Bytes::from_static(&[0xe2, 0x82])).await;
            sink.send(OutputStream::Stdout, Bytes::from_static(&[0xac])).await;
            sink.send(OutputStream::Stdout, Bytes::new()).await;
            sink.send(OutputStream::Stdout, Bytes::from_static(&[0xe2])).await;
            Ok(result(0, "", ""))
        })
    })
    .run()
    .succeeded();
    assert_eq!(
        ran.stdout(),
        "stdout:a,stderr:b,stdout:€,stdout:\u{fffd} 0\n"
    );
    assert!(
        ran.system()
            .contains("onOutput threw and goes on: Error: cb"),
        "{}",
        ran.system()
    );
}

#[test]
fn much_output_is_held_back_not_lost() {
    let ran = Case::body("let n = 0; await runtime.run({ onOutput: (_, data) => { n += data.length } }); console.log(n)")
        .step(|request| {
            Box::pin(async move {
                let sink = request.output.unwrap();
                for _ in 0..2_000 {
                    sink.send(OutputStream::Stdout, Bytes::from_static(&[b'x'; 100])).await;
                }
                Ok(result(0, "", ""))
            })
        })
        .run()
        .succeeded();
    assert_eq!(ran.stdout(), "200000\n");
}
