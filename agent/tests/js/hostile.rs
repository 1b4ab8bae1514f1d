//! Arguments that nobody sane would give: a bounded, repeatable fuzz run over every call of the host.
//!
//! `POCKETCI_FUZZ_ROUNDS` asks for more rounds, `POCKETCI_FUZZ_SEED` for another beginning; a failure prints both.

use crate::support::Case;
use pocketci_agent::js::JobEnd;
use pocketci_agent::js::request::Request;

const OPS: [&str; 10] = [
    "createVolume",
    "readFiles",
    "closeSandbox",
    "fetch",
    "sendWebhook",
    "emitEvent",
    "notify",
    "storage",
    "gate",
    "trigger",
];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

/// xorshift64*: small, repeatable, good enough to choose.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides
    }

    fn json(&mut self, depth: usize) -> String {
        const TEXTS: [&str; 12] = [
            "",
            "a",
            "secret:A",
            "\\u0000",
            "..",
            "http",
            "http://[::1",
            "1h30m",
            "-5s",
            "\\ud800",
            "x:y",
            "9999999999999999h",
        ];
        const NAMES: [&str; 24] = [
            "name", "url", "headers", "timeout", "type", "backend", "message", "verb", "key",
            "value", "prefix", "fields", "jobs", "args", "paths", "volume", "payload", "retries",
            "secret", "redirect", "method", "sandbox", "context", "id",
        ];
        match self.roll(if depth == 0 { 8 } else { 11 }) {
            0 => "null".into(),
            1 => "true".into(),
            2 => "-1".into(),
            3 => "1e308".into(),
            4 => "18446744073709551616".into(),
            5 | 6 => format!("\"{}\"", TEXTS[self.roll(TEXTS.len())]),
            7 => format!(
                "\"{}\"",
                ["get", "set", "slack", "smtp", "http", "follow", "POST"][self.roll(7)]
            ),
            8 => {
                let items: Vec<String> = (0..self.roll(4)).map(|_| self.json(depth - 1)).collect();
                format!("[{}]", items.join(","))
            }
            _ => {
                let members: Vec<String> = (0..self.roll(7))
                    .map(|_| {
                        format!(
                            "\"{}\":{}",
                            NAMES[self.roll(NAMES.len())],
                            self.json(depth - 1)
                        )
                    })
                    .collect();
                format!("{{{}}}", members.join(","))
            }
        }
    }

    /// The text with a few bytes broken.
    fn broken(&mut self, text: String) -> String {
        let mut characters: Vec<char> = text.chars().collect();
        for _ in 0..self.roll(3) {
            if characters.is_empty() {
                break;
            }
            let at = self.roll(characters.len());
            match self.roll(3) {
                0 => drop(characters.remove(at)),
                1 => characters.insert(at, ['"', '{', '[', '\\', '\u{0}', '1'][self.roll(6)]),
                _ => characters.truncate(at),
            }
        }
        characters.into_iter().collect()
    }
}

#[test]
fn no_text_makes_the_argument_reader_panic() {
    let seed = setting("POCKETCI_FUZZ_SEED", 0x00C0_FFEE);
    let rounds = setting("POCKETCI_FUZZ_ROUNDS", 20_000);
    let mut dice = Dice(seed | 1);
    let (mut accepted, mut refused) = (0u32, 0u32);
    for round in 0..rounds {
        let op = OPS[dice.roll(OPS.len())];
        let json = dice.json(4);
        let json = dice.broken(json);
        let parsed = std::panic::catch_unwind(|| Request::parse(op, &json, None).map(|_| ()));
        match parsed {
            Ok(Ok(())) => accepted += 1,
            Ok(Err(said)) => {
                assert!(!said.is_empty() && said.len() < 10_000, "{op} {json}");
                refused += 1;
            }
            Err(_) => panic!("round {round} of seed {seed}: {op} {json}"),
        }
    }
    assert!(
        accepted > 10 && refused > 1_000,
        "{accepted} accepted, {refused} refused"
    );
}

#[test]
fn hostile_values_only_hurt_their_author() {
    let ran = Case::body(
        r#"
        const cyclic = {}; cyclic.self = cyclic;
        const deep = JSON.parse('['.repeat(500) + ']'.repeat(500));
        const trap = new Proxy({}, { get() { throw new Error('trap'); }, ownKeys() { throw new Error('keys'); } });
        const values = [undefined, null, 0, -0, NaN, Infinity, 1n, '', 'x'.repeat(100000), Symbol('s'), () => {}, [], {}, cyclic, deep, trap,
          new Proxy([], {}), new Uint8Array(3), new ArrayBuffer(0), new Date(NaN), /x/g, new Map(), Object.create(null),
          { toString() { throw new Error('toString'); } }, { name: cyclic }, { get name() { throw new Error('getter'); } },
          { command: trap }, { env: trap }, { toJSON() { return trap; } }, new Proxy(() => {}, {}), '\ud800', { then() {} }];
        const calls = [runtime.run, runtime.startSandbox, volumes.create, volumes.readFiles, fetch, webhook.send, event.emit, triggerPipeline,
          gate, stage, storage.get, storage.set, storage.put, storage.delete, storage.list, storage.getAll, notify.send, notify.sendMultiple,
          notify.configure, notify.setConfigs, notify.setContext, notify.updateContext, yaml.parse, yaml.stringify, structuredClone, atob, btoa,
          webhookTrigger, webhookParams, webhookDedup, crypto.getRandomValues, crypto.subtle.digest, crypto.subtle.importKey, crypto.subtle.sign,
          crypto.subtle.verify, http.respond, console.log, assert.equal, assert.containsString, assert.containsElement, setTimeout, setInterval,
          (a, b) => new URL(a, b), (a) => new URLSearchParams(a), (a) => new Headers(a), (a, b) => new Response(a, b),
          (a) => new TextDecoder(a), (a) => new TextDecoder().decode(a), (a) => new TextEncoder().encode(a), (a) => AbortSignal.any(a),
          (a) => AbortSignal.timeout(a)];
        let settled = 0;
        for (const call of calls) for (const a of values) for (const b of [undefined, values[settled % values.length]]) {
          try { const r = call(a, b); if (typeof r === 'number') clearTimeout(r); if (r instanceof Promise) await Promise.race([r.catch(() => {}), null]); } catch (e) { }
          settled += 1;
        }
        console.info('settled', settled === calls.length * values.length * 2);
        "#,
    )
    .webhook(&[], b"{}")
    .run();
    assert!(
        matches!(ran.end, JobEnd::Succeeded | JobEnd::Failed { .. }),
        "{:?}",
        ran.end
    );
    assert!(ran.stdout().contains("settled true"), "{:?}", ran.end);
}
