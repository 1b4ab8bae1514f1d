//! The webhook's request and the reply.

use crate::support::Case;
use pocketci_agent::js::host::Reply;

fn body(reply: &Reply) -> &str {
    std::str::from_utf8(&reply.body).unwrap()
}

#[test]
fn the_request_has_exactly_the_documented_properties() {
    let ran = Case::body(
        "console.log(JSON.stringify(http.request())); console.log(http.request() === undefined)",
    )
    .webhook(&[("x-a", "1")], b"hi")
    .run()
    .succeeded();
    assert_eq!(
        ran.stdout(),
        "{\"provider\":\"github\",\"eventType\":\"push\",\"method\":\"POST\",\"url\":\"/api/webhooks/1?x=1\",\
         \"headers\":{\"x-a\":\"1\"},\"body\":\"hi\",\"query\":{\"x\":\"1\"},\"headersAll\":{\"x-a\":[\"1\"]},\
         \"queryAll\":{\"x\":[\"1\"]},\"rawQuery\":\"x=1\",\"contentType\":\"\",\
         \"verified\":false,\"remoteAddr\":\"\",\"files\":[]}\nfalse\n"
    );
    let ran = Case::body("console.log(http.request())").run().succeeded();
    assert_eq!(ran.stdout(), "undefined\n");
}

#[test]
fn header_names_answer_in_any_case_and_iterate_in_lower_case() {
    let ran = Case::body(
        "const h = http.request().headers;
         const check = (what, ok) => { if (!ok) throw new Error(what); };
         check('get', h['User-Agent'] === 'curl' && h['user-agent'] === 'curl' && h['USER-AGENT'] === 'curl');
         check('absent', h['x-none'] === undefined && !('X-None' in h));
         check('in', 'User-Agent' in h && 'user-agent' in h);
         check('own', h.hasOwnProperty('User-Agent') && Object.hasOwn(h, 'USER-agent') && !Object.hasOwn(h, 'toString'));
         check('keys', Object.keys(h).join() === '__proto__,content-type,user-agent');
         check('entries', Object.entries(h).length === 3);
         let seen = []; for (const k in h) seen.push(k); check('for in', seen.length === 3);
         check('json', JSON.stringify(h).includes('\"user-agent\":\"curl\"'));
         check('spread', ({ ...h })['user-agent'] === 'curl');
         check('destructuring', (({ 'User-Agent': ua }) => ua)(h) === 'curl');
         h['X-New'] = '1'; check('set', h['x-new'] === '1' && Object.keys(h).includes('x-new'));
         delete h['X-NEW']; check('delete', !('x-new' in h));
         check('fresh', http.request().headers['x-new'] === undefined);
         check('symbol', h[Symbol.iterator] === undefined && `${h}` === '[object Object]');
         Object.freeze(http.request()); globalThis.keep = h; console.log(h);",
    )
    .webhook(&[("user-agent", "curl"), ("content-type", "a/b"), ("__proto__", "x")], b"")
    .run()
    .succeeded();
    assert!(
        ran.stdout().contains("'user-agent': 'curl'"),
        "{}",
        ran.stdout()
    );
}

#[test]
fn a_body_that_is_no_text_keeps_every_byte() {
    let ran = Case::body(
        "const b = http.request().body; console.log(b.length, b.charCodeAt(0), b.charCodeAt(255))",
    )
    .webhook(&[], &(0..=255).rev().collect::<Vec<u8>>())
    .run()
    .succeeded();
    assert_eq!(ran.stdout(), "256 255 0\n");
    let ran = Case::body("console.log(http.request().body.length)")
        .webhook(&[], "a\0€".as_bytes())
        .run()
        .succeeded();
    assert_eq!(ran.stdout(), "3\n");
}

#[test]
fn a_reply_carries_status_headers_and_body() {
    let ran = Case::body("http.respond({ status: 201, body: 'é', headers: { 'X-N': 5, 'Set-Cookie': ['a=1', 'b=2'], 'x-none': undefined } }) === undefined || console.log('no')")
        .webhook(&[], b"")
        .run()
        .succeeded();
    let reply = ran.reply();
    assert_eq!((reply.status, body(&reply)), (201, "é"));
    let headers: Vec<_> = reply
        .headers
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    assert_eq!(
        headers,
        [("X-N", "5"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    );
    assert_eq!(ran.log(), "");
    for (argument, status, text) in [
        ("{}", 200, ""),
        ("{ status: 0 }", 200, ""),
        ("{ status: null, body: null, headers: null }", 200, ""),
        (
            "{ body: new Uint8Array([97, 98, 99]).subarray(1) }",
            200,
            "bc",
        ),
        ("{ body: new Uint8Array([97]).buffer }", 200, "a"),
        ("{ body: 'a\\ud800' }", 200, "a\u{fffd}"),
    ] {
        let ran = Case::body(&format!("http.respond({argument})"))
            .webhook(&[], b"")
            .run()
            .succeeded();
        assert_eq!(
            (ran.reply().status, body(&ran.reply())),
            (status, text),
            "{argument}"
        );
    }
}

#[test]
fn an_object_as_body_is_json() {
    let ran = Case::body("http.respond({ body: { a: [1] } })")
        .webhook(&[], b"")
        .run()
        .succeeded();
    assert_eq!(body(&ran.reply()), "{\"a\":[1]}");
    assert_eq!(
        ran.reply().headers,
        [("content-type".to_owned(), "application/json".to_owned())]
    );
    let ran = Case::body("http.respond({ body: [1], headers: { 'Content-Type': 'x/y' } })")
        .webhook(&[], b"")
        .run()
        .succeeded();
    assert_eq!(
        ran.reply().headers,
        [("Content-Type".to_owned(), "x/y".to_owned())]
    );
}

#[test]
fn only_the_first_reply_counts() {
    let ran =
        Case::body("http.respond({ body: '1' }); http.respond({ status: 500 }); http.respond(7);")
            .webhook(&[], b"")
            .run()
            .succeeded();
    assert_eq!((ran.reply().status, body(&ran.reply())), (200, "1"));
    assert!(ran.system().contains("called again"), "{}", ran.system());
    // Also when reading the first one responds.
    let ran = Case::body(
        "http.respond({ get body() { http.respond({ body: 'inner' }); return 'outer'; } });",
    )
    .webhook(&[], b"")
    .run()
    .succeeded();
    assert_eq!(body(&ran.reply()), "inner");
}

#[test]
fn nothing_to_say_is_ignored_and_noted() {
    let ran = Case::body("http.respond(); http.respond(null); http.respond({ body: 'x' })")
        .webhook(&[], b"")
        .run()
        .succeeded();
    assert_eq!(body(&ran.reply()), "x");
    assert!(
        ran.system().contains("without a response"),
        "{}",
        ran.system()
    );
    let ran = Case::body("http.respond({ status: 42 }); http.respond(5); http.respond()")
        .run()
        .succeeded();
    assert!(
        ran.host.replies.lock().unwrap().is_empty() && ran.log().is_empty(),
        "without a webhook it does nothing"
    );
}

#[test]
fn what_http_forbids_becomes_a_500_and_a_line_in_the_log() {
    for (argument, noted) in [
        ("{ status: 42 }", "status 42 is not"),
        ("{ status: 199 }", "status 199"),
        ("{ status: 600 }", "status 600"),
        ("{ status: 200.5 }", "status 200.5"),
        ("{ status: NaN }", "status NaN"),
        (
            "{ headers: { 'X-A': 'a\\r\\nSet-Cookie: evil=1' } }",
            "header x-a",
        ),
        ("{ headers: { 'X-A': 'a\\0' } }", "header x-a"),
        ("{ headers: { 'X-A': '€' } }", "header x-a"),
        ("{ headers: { 'X A': '1' } }", "is not a header name"),
        ("{ headers: { 'X:\\n': '1' } }", "is not a header name"),
        ("{ headers: { Connection: 'close' } }", "the server's own"),
        (
            "{ headers: { 'Transfer-Encoding': 'chunked' } }",
            "the server's own",
        ),
        ("{ headers: { 'Content-Length': 3 } }", "the server's own"),
        ("{ body: 'x'.repeat((10 << 20) + 1) }", "more than 10485760"),
        (
            "{ body: new Uint8Array((10 << 20) + 1) }",
            "more than 10485760",
        ),
        (
            "{ headers: Object.fromEntries([...Array(101)].map((_, i) => [`h${i}`, '1'])) }",
            "more than 100 headers",
        ),
        (
            "{ headers: { a: 'x'.repeat(70000) } }",
            "more than 100 headers or 65536",
        ),
    ] {
        let ran = Case::body(&format!(
            "http.respond({argument}); http.respond({{ body: 'second' }});"
        ))
        .webhook(&[], b"")
        .run()
        .succeeded();
        let reply = ran.reply();
        assert_eq!(reply.status, 500, "{argument}");
        assert!(
            body(&reply).starts_with("{\"error\":{\"code\":\"invalid_reply\""),
            "{argument}"
        );
        assert!(ran.system().contains(noted), "{argument}: {}", ran.system());
        assert!(!ran.system().contains("evil"), "values stay out of the log");
    }
}

#[test]
fn a_wrong_type_throws_where_it_is_and_leaves_the_shot() {
    for (argument, told) in [
        ("'text'", "the response must be an object, got a string"),
        ("[]", "the response must be an object, got an array"),
        ("{ status: '200' }", "status must be a number, got a string"),
        (
            "{ body: 5 }",
            "body must be a string, bytes or an object, got a number",
        ),
        ("{ body: () => 1 }", "body must be"),
        ("{ headers: 'a' }", "headers must be an object"),
        (
            "{ headers: { a: {} } }",
            "header \"a\" must be a string or a number, got an object",
        ),
    ] {
        let ran = Case::body(&format!("http.respond({argument})"))
            .webhook(&[], b"")
            .run();
        assert!(
            ran.failed()
                .contains(&format!("TypeError: http.respond: {told}")),
            "{argument}: {}",
            ran.failed()
        );
        assert!(ran.failed().contains("main.js:2"), "{}", ran.failed());
        let ran = Case::body(&format!(
            "try {{ http.respond({argument}) }} catch {{}} http.respond({{ body: 'ok' }})"
        ))
        .webhook(&[], b"")
        .run()
        .succeeded();
        assert_eq!(body(&ran.reply()), "ok");
    }
}

#[test]
fn getters_and_proxies_in_the_response_may_throw() {
    for argument in [
        "{ get status() { throw new Error('g') } }",
        "new Proxy({}, { get() { throw new Error('g') } })",
        "{ headers: new Proxy({}, { ownKeys() { throw new Error('g') } }) }",
        "{ body: { toJSON() { throw new Error('g') } } }",
        "{ headers: { a: new Proxy([], { get() { throw new Error('g') } }) } }",
    ] {
        let ran = Case::body(&format!("http.respond({argument})"))
            .webhook(&[], b"")
            .run();
        assert!(
            ran.failed().starts_with("Error: g") || ran.failed().contains("must be"),
            "{argument}: {}",
            ran.failed()
        );
    }
    let ran = Case::body("const o = {}; o.o = o; http.respond({ body: o })")
        .webhook(&[], b"")
        .run();
    assert!(ran.failed().starts_with("TypeError: "), "{}", ran.failed());
}

#[test]
fn throwing_before_the_reply_sends_none() {
    let ran = Case::body("throw new Error('early'); http.respond({})")
        .webhook(&[], b"")
        .run();
    assert!(ran.failed().starts_with("Error: early"));
    assert!(ran.host.replies.lock().unwrap().is_empty());
}
