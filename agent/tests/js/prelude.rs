//! The globals that are made when they are first used.

use crate::support::Case;
use bytes::Bytes;
use pocketci_agent::js::host::{Answer, Failure, Request};
use pocketci_agent::js::request::{Redirect, Storage};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// Runs a body that asserts for itself.
#[track_caller]
fn holds(body: &str) {
    Case::body(body).run().succeeded();
}

#[test]
fn globals_can_be_replaced_and_are_not_enumerable() {
    holds(
        "assert.equal(Object.keys(globalThis).includes('fetch'), false);
         globalThis.fetch = 1; assert.equal(fetch, 1);
         globalThis.Headers = 2; assert.equal(new Response('x').status, 200); assert.equal(Headers, 2);
         assert.equal(typeof performance.now(), 'number');
         assert.equal(typeof queueMicrotask, 'function');",
    );
}

#[test]
fn an_own_pipeline_gets_stage_and_gate() {
    let ran = Case::new(
        "const pipeline = async () => { console.log(typeof pipeline.stage, typeof pipeline.gate, typeof gate); };
         export { pipeline };",
    )
    .run()
    .succeeded();
    assert_eq!(ran.stdout(), "function function function\n");
}

#[test]
fn assertions_throw_what_can_be_caught() {
    holds(
        "const fails = (f, text) => { try { f(); } catch (e) {
           if (!(e instanceof AssertionError) || e.name !== 'AssertionError' || !e.message.includes(text)) throw e; return; }
           throw new Error('it held: ' + f); };
         assert.equal({ a: [1, new Date(5), new Map([[1, { b: 2 }]])] }, { a: [1, new Date(5), new Map([[1, { b: 2 }]])] });
         assert.equal(NaN, NaN);
         assert.notEqual({ a: 1 }, { a: 2 });
         assert.containsString('hello world', 'w.r');
         assert.containsString('x\\nHELLO', /hello/i);
         assert.containsElement([{ a: 1 }], { a: 1 });
         assert.truthy('x');
         fails(() => assert.equal({ a: 1 }, { a: 2 }, 'say'), 'say\\nnot equal');
         fails(() => assert.equal([1], { 0: 1 }), 'not equal');
         fails(() => assert.notEqual([1], [1]), 'something else');
         fails(() => assert.containsString('abc', 'x'), \"expected 'abc' to contain 'x'\");
         fails(() => assert.truthy(0), 'truthy');
         fails(() => assert.containsElement([1], 2), 'contain 2');
         const cyclic = {}; cyclic.self = cyclic; const other = {}; other.self = other;
         assert.equal(cyclic, other);
         let n = 0;
         await assert.eventuallyContainsString(async () => 'try ' + n++, 'try 3', { intervalMs: 1 });
         await assert.eventuallyContainsString(() => 'no', 'yes', { timeoutMs: 5, intervalMs: 1 }).then(() => { throw 1; }, (e) => fails(() => { throw e; }, 'in the end'));",
    );
    let ran = Case::body("assert.equal(1, 2);").run();
    assert!(
        ran.failed().starts_with("AssertionError: not equal"),
        "{}",
        ran.failed()
    );
    assert!(!ran.failed().contains("pocketci:"), "{}", ran.failed());
}

#[test]
fn urls_are_the_webs() {
    holds(
        "const url = new URL('../b?x=1&y=a%20b#h', 'https://me:pw@example.com:8443/a/c');
         assert.equal(url.href, 'https://me:pw@example.com:8443/b?x=1&y=a%20b#h');
         assert.equal([url.protocol, url.host, url.hostname, url.port, url.pathname, url.search, url.hash, url.origin, url.username],
           ['https:', 'example.com:8443', 'example.com', '8443', '/b', '?x=1&y=a%20b', '#h', 'https://example.com:8443', 'me']);
         url.searchParams.append('z', 'ü&'); url.pathname = '/p q'; url.port = ''; url.hash = '';
         assert.equal(String(url), 'https://me:pw@example.com/p%20q?x=1&y=a+b&z=%C3%BC%26');
         const live = url.searchParams; url.search = '?only=1'; assert.equal(live.get('only'), '1'); live.append('z', '2');
         assert.equal(url.search, '?only=1&z=2'); url.search = '?only=1'; assert.equal(JSON.stringify({ url }).includes('only=1'), true);
         assert.equal(URL.canParse('nonsense'), false); assert.equal(URL.parse('x:'), URL.parse('x:'));
         let thrown; try { new URL('nonsense'); } catch (e) { thrown = e; } assert.equal(thrown instanceof TypeError, true);
         const params = new URLSearchParams({ a: '1', b: '2' }); params.append('a', '3'); params.delete('b');
         assert.equal([...params], [['a', '1'], ['a', '3']]); params.set('a', '9'); params.sort();
         assert.equal(params.toString(), 'a=9'); assert.equal(params.size, 1); assert.equal(new URLSearchParams('?q=%zz+x').get('q'), '%zz x');",
    );
}

#[test]
fn text_and_bytes_convert() {
    holds(
        "assert.equal([...new TextEncoder().encode('é€😀')].length, 9);
         assert.equal(new TextDecoder().decode(new TextEncoder().encode('é€😀')), 'é€😀');
         assert.equal(new TextDecoder().decode(new Uint8Array([0xef, 0xbb, 0xbf, 65])), 'A');
         assert.equal(new TextDecoder('latin1').decode(new Uint8Array([0xe9, 0x80])), 'é€');
         let thrown; try { new TextDecoder('utf-8', { fatal: true }).decode(new Uint8Array([0xff])); } catch (e) { thrown = e; }
         assert.equal(thrown instanceof TypeError, true);
         assert.equal(btoa('hé'), 'aOk='); assert.equal(atob('aOk'), 'hé'); assert.equal(atob(' aG k= '), 'hi');
         try { btoa('€'); thrown = 0; } catch (e) { thrown = e; } assert.containsString(thrown.message, 'Latin-1');",
    );
}

#[test]
fn crypto_hashes_signs_and_draws() {
    holds(
        "const hex = (b) => [...new Uint8Array(b)].map((x) => x.toString(16).padStart(2, '0')).join('');
         const bytes = (t) => new TextEncoder().encode(t);
         assert.equal(hex(await crypto.subtle.digest('SHA-256', bytes('abc'))), 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
         assert.equal(hex(await crypto.subtle.digest({ name: 'sha-1' }, bytes('abc'))), 'a9993e364706816aba3e25717850c26c9cd0d89d');
         const key = await crypto.subtle.importKey('raw', bytes('key'), { name: 'HMAC', hash: 'SHA-256' }, false, ['sign', 'verify']);
         const signature = await crypto.subtle.sign('HMAC', key, bytes('The quick brown fox jumps over the lazy dog'));
         assert.equal(hex(signature), 'f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8');
         assert.equal(await crypto.subtle.verify('HMAC', key, signature, bytes('The quick brown fox jumps over the lazy dog')), true);
         assert.equal(await crypto.subtle.verify('HMAC', key, signature, bytes('else')), false);
         assert.containsString(crypto.randomUUID(), '^[0-9a-f]{8}-[0-9a-f]{4}-4');
         const drawn = crypto.getRandomValues(new Uint32Array(64)); assert.equal(drawn.some((x) => x !== 0), true);
         await crypto.subtle.digest('MD5', bytes('')).then(() => { throw 1; }, (e) => assert.equal(e.name, 'NotSupportedError'));",
    );
}

#[test]
fn structured_clone_copies_deeply() {
    holds(
        "const given = { d: new Date(1), m: new Map([['k', new Set([1])]]), a: [, 1], u: new Uint16Array([1, 2]), e: new TypeError('t'), n: null };
         given.self = given; const copy = structuredClone(given);
         assert.equal(copy.self === copy && copy !== given, true); assert.equal(copy.m.get('k').has(1), true);
         copy.u[0] = 9; assert.equal(given.u[0], 1); assert.equal(copy.e instanceof TypeError, true); assert.equal(copy.d, given.d);
         let name; try { structuredClone({ f() {} }); } catch (e) { name = e.name; } assert.equal(name, 'DataCloneError');",
    );
}

#[test]
fn abort_signals_tell_once_and_do_not_hold_the_run() {
    holds(
        "const c = new AbortController(); let told = 0;
         c.signal.addEventListener('abort', () => told++); c.signal.onabort = () => told++;
         c.abort('why'); c.abort('again');
         assert.equal([told, c.signal.aborted, c.signal.reason], [2, true, 'why']);
         assert.equal(AbortSignal.abort().reason.name, 'AbortError');
         const any = AbortSignal.any([new AbortController().signal, AbortSignal.timeout(5)]);
         await new Promise((done) => any.addEventListener('abort', done)); assert.equal(any.reason.name, 'TimeoutError');
         AbortSignal.timeout(3_600_000);
         let wrong; try { AbortSignal.timeout(undefined); } catch (e) { wrong = e; } assert.equal(wrong.name, 'TypeError');",
    );
}

#[test]
fn yaml_is_parsed_and_written() {
    holds(
        "const value = { a: [1, 'two', null, { b: true }], text: 'x: y\\nz' };
         assert.equal(yaml.parse(yaml.stringify(value)), value); assert.equal(YAML, yaml);
         let thrown; try { yaml.parse('a: [1'); } catch (e) { thrown = e; }
         assert.equal(thrown instanceof SyntaxError, true); assert.containsString(thrown.message, 'line');",
    );
}

#[test]
fn stages_run_side_by_side_and_tell_all_that_failed() {
    let ran = Case::body(
        "const order = [];
         await pipeline_.stage('ok', ({ job }) => { job('a', async () => { await null; order.push('a'); }); job('b', () => order.push('b')); });
         console.log(order.join());
         await pipeline_.stage('bad', ({ job }) => { job('x', async () => { throw new Error('one'); }); job('y', () => { throw 'two'; }); })
           .catch((e) => console.log(e.name, e.message, e.cause.message));
         await stage('none', () => {}).catch((e) => console.log(e.message));
         await stage('none').catch((e) => console.log(e.name));"
            .replace("pipeline_", "globalThis.pipeline")
            .as_str(),
    )
    .run()
    .succeeded();
    assert_eq!(
        ran.stdout(),
        "b,a\nStageError stage \"bad\": job \"x\" failed: one; job \"y\" failed: 'two' one\nstage \"none\" has no jobs\nTypeError\n"
    );
}

/// Answers each request by its kind and keeps what was asked.
fn answering(
    body: &str,
    answer: impl Fn(&Request) -> Result<Answer, Failure> + Send + Sync + 'static,
) -> Case {
    let mut case = Case::body(body);
    case.host.call = std::sync::Arc::new(move |request| answer(&request));
    case
}

#[test]
fn fetch_sends_what_was_asked_and_gives_a_response() {
    let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
    let kept = seen.clone();
    let ran = answering(
        "const r = await fetch(new URL('https://x.test/a'), { method: 'post', headers: { B: '1' }, body: new URLSearchParams({ q: '1 2' }) });
         console.log(r.status, r.ok, r.headers.get('Content-Type'), r.url, r.redirected);
         const copy = r.clone();
         console.log((await r.json()).a, await copy.text(), r.bodyUsed);
         await r.text().catch((e) => console.log(e.message));
         await (await fetch('https://x.test/')).json();
         await fetch('https://x.test/', { method: 'PUT', body: new Uint8Array([1, 2]) });
         await fetch('https://x.test/', { body: 'x' }).catch((e) => console.log(e.message));
         await fetch().catch((e) => console.log(e.message));
         await fetch('https://x.test/', { signal: AbortSignal.abort() }).catch((e) => console.log(e.name));
         console.log([...(await (await fetch('https://x.test/')).bytes())].length);",
        move |request| {
            let Request::Fetch(fetch) = request else {
                return Err("not a fetch".into());
            };
            assert_eq!(fetch.redirect, Redirect::Follow);
            kept.lock().unwrap().push(json!([fetch.url, fetch.method, fetch.headers, fetch.body.as_deref()]));
            Ok(Answer::Blob {
                head: json!({ "status": 201, "statusText": "Created", "headers": [["content-type", "application/json"]], "url": "https://x.test/b", "redirected": true }),
                body: Bytes::from_static(b"{\"a\":5}"),
            })
        },
    )
    .run()
    .succeeded();
    assert_eq!(
        ran.stdout(),
        "201 true application/json https://x.test/b true\n5 {\"a\":5} true\n\
         Response: the body was read already; use clone() to read it twice\n\
         fetch: a GET request cannot have a body\nfetch: a URL is expected\nAbortError\n7\n"
    );
    let seen = seen.lock().unwrap();
    assert_eq!(
        seen[0],
        json!([
            "https://x.test/a",
            "POST",
            [
                ["b", "1"],
                [
                    "content-type",
                    "application/x-www-form-urlencoded;charset=UTF-8"
                ]
            ],
            b"q=1+2"
        ])
    );
    assert_eq!(seen[2], json!(["https://x.test/", "PUT", [], [1, 2]]));
}

#[test]
fn a_fetch_can_be_aborted_while_it_waits() {
    let mut case = Case::body(
        "const c = new AbortController(); setTimeout(() => c.abort(), 5);
         await fetch('https://x.test/', { signal: c.signal }).catch((e) => console.log(e.name));",
    );
    case.host.slow = true;
    let ran = case.run().succeeded();
    assert_eq!(ran.stdout(), "AbortError\n");
}

#[test]
fn a_failure_rejects_with_name_members_and_the_authors_line() {
    let ran = answering("await null;\nawait gate('go');", |_| {
        Err(Failure {
            name: "GateError",
            message: "pipeline.gate \"go\": rejected by eve".into(),
            detail: json!({ "reason": "rejected", "by": "eve" }),
        })
    })
    .run();
    let message = ran.failed();
    assert!(
        message.starts_with("GateError: pipeline.gate \"go\": rejected by eve"),
        "{message}"
    );
    assert!(message.contains("main.js:3:"), "{message}");
    let ran = answering(
        "await gate('go').catch((e) => console.log(e.reason, e.by, e instanceof Error))",
        |_| {
            Err(Failure {
                name: "GateError",
                message: String::new(),
                detail: json!({ "reason": "rejected", "by": "eve" }),
            })
        },
    )
    .run()
    .succeeded();
    assert_eq!(ran.stdout(), "rejected eve true\n");
}

#[test]
fn storage_answers_at_once() {
    let ran = answering(
        "storage.set('k', { a: 1 }); console.log(storage.get('k').a, await storage.get('k'), storage.list('p'));
         try { storage.set('k', undefined); } catch (e) { console.log(e.message); }
         try { storage.get(''); } catch (e) { console.log(e.message); }
         try { storage.get('broken'); } catch (e) { console.log(e.message); }",
        |request| match request {
            Request::Storage(Storage::Get { key }) if key == "broken" => Err("no luck".into()),
            Request::Storage(Storage::Get { .. }) => Ok(Answer::Json(json!({ "a": 1 }))),
            Request::Storage(Storage::List { prefix }) => Ok(Answer::Json(json!([prefix]))),
            _ => Ok(Answer::Json(Value::Null)),
        },
    )
    .run()
    .succeeded();
    assert_eq!(
        ran.stdout(),
        "1 { a: 1 } [ 'p' ]\nstorage: a value that JSON can hold is expected\n\
         storage: the key must be a text of 1 to 512 bytes without control characters\nno luck\n"
    );
}

#[test]
fn volumes_and_sandboxes_are_objects_with_methods() {
    let ran = answering(
        "const v = await volumes.create({ name: 'src' }); console.log(v.name, v.path, Object.isFrozen(v));
         console.log(await v.readFiles(['a']), await volumes.readFiles(v, 'a', 'b'));
         await volumes.create('src').catch((e) => console.log(e.message));
         await volumes.create({ name: '../x' }).catch((e) => console.log(e.name));
         const box = await runtime.startSandbox({ image: 'x' }); console.log(box.id);
         console.log((await box.exec({ command: { path: 'true' } })).code); await box.close();",
        |request| match request {
            Request::CreateVolume { name } => Ok(Answer::Json(json!({ "name": name, "path": "/v" }))),
            Request::ReadFiles { paths, .. } => Ok(Answer::Json(json!({ "n": paths.len() }))),
            Request::StartSandbox(run) => Ok(Answer::Json(json!(format!("box of {}", run.image)))),
            Request::Exec { sandbox, .. } if sandbox == "box of x" => Ok(Answer::Run(crate::support::result(3, "", ""))),
            _ => Ok(Answer::Nothing),
        },
    )
    .run()
    .succeeded();
    assert_eq!(
        ran.stdout(),
        "src /v true\n{ n: 1 } { n: 2 }\nvolumes.create: one object is expected, for example { name: \"source\" }\nTypeError\nbox of x\n3\n"
    );
}

#[test]
fn failing_on_errors_rejects_with_the_result() {
    let ran = Case::body(
        "await runtime.run({ failOnError: true }).catch((e) => console.log(e.name, e.message.split('\\n')[0], e.result.code));",
    )
    .step(|_| Box::pin(async { Ok(crate::support::result(5, "", "oh\n")) }))
    .run()
    .succeeded();
    assert_eq!(
        ran.stdout(),
        "StepError the step ended with exit code 5; its stderr ends with: 5\n"
    );
}

#[test]
fn params_and_dedup_evaluate_over_the_webhook() {
    let body = "console.log(webhookParams({ A: 'x', B: 'wrong' }), webhookDedup('key'), webhookDedup('wrong'));";
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = asked.clone();
    let mut case = Case::body(body).webhook(&[], b"");
    case.host.call = std::sync::Arc::new(move |request| match request {
        Request::Dedup { key } => {
            kept.lock().unwrap().push(key);
            Ok(Answer::Json(json!(true)))
        }
        _ => Ok(Answer::Nothing),
    });
    let ran = case.run().succeeded();
    assert_eq!(ran.stdout(), "{ A: 'value of x' } true false\n");
    assert_eq!(*asked.lock().unwrap(), ["value of key"]);
    let ran = Case::body(body).run().succeeded();
    assert_eq!(ran.stdout(), "{} false false\n");
}

#[test]
fn outgoing_webhooks_have_an_id_that_a_new_attempt_repeats() {
    let send = "const a = await webhook.send({ url: 'https://x.test', body: { a: 1 }, wait: false });
                await webhook.send({ url: 'https://x.test', body: 'text', secret: 'secret:S' }); console.log(a.id);";
    let sent: Arc<Mutex<Vec<(String, String, String)>>> = Arc::default();
    let first = {
        let sent = sent.clone();
        answering(send, move |request| match request {
            Request::SendWebhook(send) => {
                let body = String::from_utf8_lossy(&send.body).into_owned();
                sent.lock()
                    .unwrap()
                    .push((send.id.clone(), send.content_type.clone(), body));
                Ok(Answer::Json(json!({ "id": send.id })))
            }
            _ => Ok(Answer::Nothing),
        })
        .run()
        .succeeded()
    };
    let again = Case::body(send).run().succeeded();
    assert_eq!(first.stdout(), again.stdout());
    let sent = sent.lock().unwrap();
    assert_eq!(first.stdout().trim(), sent[0].0);
    assert_eq!(
        (sent[0].1.as_str(), sent[0].2.as_str()),
        ("application/json", "{\"a\":1}")
    );
    assert_eq!(
        (sent[1].1.as_str(), sent[1].2.as_str()),
        ("text/plain; charset=utf-8", "text")
    );
    assert_ne!(sent[0].0, sent[1].0);
}

#[test]
fn notifications_carry_their_context_and_reject_as_documented() {
    let ran = answering(
        "notify.configure({ backends: { ops: { type: 'http', url: 'https://x.test' } }, context: { jobName: 'j' } });
         notify.updateStatus('failed'); notify.updateContext({ jobName: '', duration: '5s' });
         console.log(await notify.send({ name: 'ops', message: '{{ .JobName }}' }));
         await notify.send({ name: 'nobody', message: '' }).catch((e) => console.log(e));
         await notify.sendMultiple({ names: ['ops', 'nobody'], message: '' }).catch((e) => console.log(e.error));
         console.log(await notify.send({ name: 'nobody', message: '', async: true }));",
        |request| match request {
            Request::Notify(notify) => {
                let context = &notify.context;
                assert_eq!((context.job_name.as_str(), context.status.as_str()), ("j", "failed"));
                assert_eq!((context.duration.as_str(), context.pipeline_name.as_str()), ("5s", "demo"));
                Ok(Answer::Nothing)
            }
            _ => Err("something else".into()),
        },
    )
    .run()
    .succeeded();
    assert_eq!(
        ran.stdout(),
        "{ success: true }\n{ success: false, error: 'notification config \"nobody\" not found' }\n\
         1 notification(s) failed: nobody: notification config \"nobody\" not found\n{ success: true }\n"
    );
}

#[test]
fn aborting_a_refused_fetch_touches_no_other_call() {
    let ran = Case::body(
        "const c = new AbortController(); const step = runtime.run({});
         fetch('https://x.test/', { signal: c.signal, timeout: 'bad' }).catch((e) => console.log(e.name)); c.abort();
         console.log((await step).code);",
    )
    .run()
    .succeeded();
    assert!(ran.stdout().contains("0\n"), "{}", ran.stdout());
}

#[test]
fn timers_that_are_always_due_do_not_starve_steps() {
    let ran = Case::body(
        "let done = false; runtime.run({}).then(() => { done = true; });
         while (!done) await new Promise((r) => setTimeout(r, 0));
         console.log('done');",
    )
    .run()
    .succeeded();
    assert_eq!(ran.stdout(), "done\n");
}
