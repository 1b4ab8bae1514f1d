//! A journal is played: the program sees what it saw, nothing is done twice, and another way is noticed.

use crate::support::*;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pocketci_agent::js::JobEnd;
use pocketci_agent::js::host::{Answer, Failure, Request};
use pocketci_agent::js::journal::{Entry, Journal, Kept, Sink, Tape};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A journal in memory.
#[derive(Default)]
struct Memory {
    entries: Arc<Mutex<Vec<Entry>>>,
    /// Has room for so many entries.
    full_after: Option<usize>,
}

impl Sink for Memory {
    fn append(&self, entries: Vec<Entry>) -> BoxFuture<'static, Kept> {
        let (stored, full_after) = (self.entries.clone(), self.full_after);
        async move {
            // Longer than anything that could be seen too early takes.
            tokio::time::sleep(Duration::from_millis(2)).await;
            let mut stored = stored.lock().unwrap();
            if full_after.is_some_and(|most| stored.len() + entries.len() > most) {
                return Kept::Ended;
            }
            stored.extend(entries.into_iter().map(|e| Entry { attempt: 1, ..e }));
            Kept::Stored
        }
        .boxed()
    }

    fn redact(&self, text: &str) -> String {
        text.replace("hunter2", "***")
    }

    fn redact_bytes(&self, bytes: &Bytes) -> Bytes {
        // Of a test's bytes one is one character.
        let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        let shown = self.redact(&text);
        shown.chars().map(|c| u8::try_from(c).unwrap()).collect()
    }
}

/// What one try gave: how it ended, and the journal then.
struct Tried {
    ran: Ran,
    entries: Vec<Entry>,
    calls: Vec<String>,
}

/// A host that does what its calls ask for, slowly or not.
struct World {
    body: &'static str,
    /// Milliseconds that a step with a name takes.
    delays: Vec<(&'static str, u64)>,
    volumes_live: bool,
}

impl World {
    fn new(body: &'static str) -> Self {
        Self {
            body,
            delays: Vec::new(),
            volumes_live: false,
        }
    }

    fn attempt(&self, tape: &[Entry]) -> Tried {
        self.attempt_into(tape, Memory::default())
    }

    fn attempt_into(&self, tape: &[Entry], memory: Memory) -> Tried {
        memory.entries.lock().unwrap().extend_from_slice(tape);
        let entries = memory.entries.clone();
        let calls = Arc::new(Mutex::new(Vec::<String>::new()));
        let (told, delays) = (calls.clone(), self.delays.clone());
        let mut case = Case::body(self.body)
            .webhook(&[], b"x")
            .step(move |request| {
                let (told, name) = (told.clone(), request.name.clone());
                let delay = delays.iter().find(|(step, _)| *step == name);
                let delay = Duration::from_millis(delay.map_or(0, |(_, ms)| *ms));
                Box::pin(async move {
                    tokio::time::sleep(delay).await;
                    told.lock().unwrap().push(format!("run {name}"));
                    if let Some(output) = &request.output {
                        let bytes = Bytes::from(format!("{name} speaks\n"));
                        output
                            .send(pocketci_agent::container::OutputStream::Stdout, bytes)
                            .await;
                    }
                    match name.as_str() {
                        "broken" => Err("it is broken".to_owned()),
                        _ => Ok(result(0, &format!("out of {name}"), "hunter2")),
                    }
                })
            });
        let told = calls.clone();
        let made = AtomicUsize::new(0);
        case.host.call = std::sync::Arc::new(move |request| {
            let number = made.fetch_add(1, Ordering::SeqCst);
            answer(&told, request, number)
        });
        case.host.journal = Mutex::new(Some(Journal {
            tape: Tape::read(tape).unwrap(),
            sink: Arc::new(memory),
        }));
        case.host.volumes_live = self.volumes_live;
        let ran = case.run();
        let entries = entries.lock().unwrap().clone();
        let calls = calls.lock().unwrap().clone();
        Tried {
            ran,
            entries,
            calls,
        }
    }
}

fn answer(told: &Mutex<Vec<String>>, request: Request, number: usize) -> Result<Answer, Failure> {
    let (name, answer) = match request {
        Request::CreateVolume { name } => (
            "volume",
            json!({ "name": name, "path": "/v", "id": number }),
        ),
        Request::StartSandbox(_) => ("sandbox", json!("sandbox-1")),
        Request::Exec { run, .. } => {
            told.lock().unwrap().push(format!("exec {}", run.path));
            return Ok(Answer::Run(result(0, "exec", "")));
        }
        Request::CloseSandbox { .. } => ("close", json!(null)),
        Request::Storage(_) => ("storage", json!(number)),
        Request::Fetch(_) => {
            told.lock().unwrap().push("fetch".to_owned());
            return Ok(Answer::Blob {
                head: json!({ "status": 200, "statusText": "", "headers": [], "url": "http://x", "redirected": false }),
                body: Bytes::from_static(b"\xff\x00"),
            });
        }
        _ => ("other", json!(null)),
    };
    told.lock().unwrap().push(name.to_owned());
    Ok(Answer::Json(answer))
}

fn ends(entries: &[Entry]) -> Vec<u32> {
    let done = entries.iter().filter(|entry| entry.kind == "done");
    done.map(|entry| entry.call).collect()
}

const RACE: &str = "
    const seen = [];
    const step = (name) => runtime.run({ name, command: { path: 'x' } }).then((r) => seen.push(r.stdout));
    await Promise.all([step('a'), step('b'), step('c')]);
    console.log(seen.join(), Date.now(), Math.random(), crypto.randomUUID(), performance.now());
    await step('d');
    console.log(seen.length, new Date().toISOString(), [...crypto.getRandomValues(new Uint8Array(3))].join());";

#[test]
fn recorded_calls_end_in_the_recorded_order_with_the_same_clock_and_chance() {
    let mut world = World::new(RACE);
    world.delays = vec![("a", 60), ("b", 30)];
    let first = world.attempt(&[]);
    assert_eq!(first.ran.end, JobEnd::Succeeded);
    assert_eq!(ends(&first.entries), [3, 2, 1, 4]);
    assert!(
        first
            .ran
            .stdout()
            .starts_with("out of c,out of b,out of a ")
    );
    // All but the last draw, which nothing followed, is stored.
    world.delays = vec![("c", 60)];
    let second = world.attempt(&first.entries);
    assert_eq!(second.ran.end, JobEnd::Succeeded, "{}", second.ran.log());
    assert!(second.calls.is_empty(), "{:?}", second.calls);
    let lines = |tried: &Tried| {
        tried
            .ran
            .stdout()
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(lines(&first)[0], lines(&second)[0]);
    let taken = second.ran.system();
    assert_eq!(
        taken.matches("is taken from attempt 1's journal").count(),
        4,
        "{taken}"
    );
    assert!(taken.contains("step 1 'd' is taken"), "{taken}");
}

#[test]
fn wherever_the_journal_ends_the_rest_is_done_once() {
    let world = World::new(RACE);
    let first = world.attempt(&[]);
    for length in 0..=first.entries.len() {
        let known = ends(&first.entries[..length]).len();
        let second = world.attempt(&first.entries[..length]);
        assert_eq!(
            second.ran.end,
            JobEnd::Succeeded,
            "{length}: {}",
            second.ran.log()
        );
        assert_eq!(
            second.calls.len(),
            4 - known,
            "{length}: {:?}",
            second.calls
        );
        let mut all = ends(&second.entries);
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3, 4], "{length}");
        let third = world.attempt(&second.entries);
        assert_eq!((third.ran.end, third.calls.len()), (JobEnd::Succeeded, 0));
    }
}

#[test]
fn timers_fire_in_the_recorded_order_without_waiting() {
    let world = World::new(
        "const seen = [];
         setTimeout(() => seen.push('timer'), 250);
         const tick = setInterval(() => seen.push('tick'), 100);
         await runtime.run({ name: 'slow', command: { path: 'x' } });
         clearInterval(tick);
         console.log(seen.join());
         await runtime.run({ name: 'last', command: { path: 'x' } });",
    );
    let slow = World {
        delays: vec![("slow", 350)],
        ..world
    };
    let first = slow.attempt(&[]);
    assert_eq!(first.ran.stdout(), "tick,tick,timer,tick\n");
    let begun = Instant::now();
    let second = slow.attempt(&first.entries);
    assert_eq!(second.ran.end, JobEnd::Succeeded, "{}", second.ran.log());
    assert_eq!(
        (second.ran.stdout(), second.calls.len()),
        (first.ran.stdout(), 0)
    );
    assert!(begun.elapsed() < Duration::from_millis(250));
}

#[test]
fn a_timer_that_had_begun_goes_on_where_it_was() {
    let world = World::new(
        "const timer = new Promise((done) => setTimeout(done, 2_000));
         await runtime.run({ name: 'a', command: { path: 'x' } });
         await runtime.run({ name: 'b', command: { path: 'x' } });
         await timer;",
    );
    let first = world.attempt(&[]);
    assert_eq!(ends(&first.entries), [1, 2]);
    // Two seconds and more have gone by since the journal's last entry.
    let begun = Instant::now();
    let second = world.attempt(&first.entries);
    assert_eq!(second.ran.end, JobEnd::Succeeded);
    assert!(
        begun.elapsed() < Duration::from_millis(1_500),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn failures_bytes_storage_and_output_enter_again_as_they_were() {
    let world = World::new(
        "try { await runtime.run({ name: 'broken', command: { path: 'x' } }); } catch (e) { console.log(e.name, e.message); }
         const reply = await fetch('http://x/');
         console.log([...(await reply.bytes?.() ?? new Uint8Array(await reply.arrayBuffer()))].join());
         console.log(storage.get('k'));
         await runtime.run({ name: 'loud', command: { path: 'x' }, onOutput: (from, text) => console.log(from, text.trim()) });",
    );
    let first = world.attempt(&[]);
    assert_eq!(first.ran.end, JobEnd::Succeeded, "{}", first.ran.log());
    let expected = "Error it is broken\n255,0\n1\nstdout loud speaks\n";
    assert_eq!(first.ran.stdout(), expected);
    let second = world.attempt(&first.entries);
    assert_eq!(second.ran.end, JobEnd::Succeeded, "{}", second.ran.log());
    assert_eq!(
        (second.ran.stdout().as_str(), second.calls.len()),
        (expected, 0)
    );
    let stored: Vec<&[u8]> = first.entries.iter().map(|e| e.data.as_ref()).collect();
    assert!(!String::from_utf8_lossy(&stored.concat()).contains("hunter2"));
}

#[test]
fn a_program_without_effects_stores_nothing() {
    let world = World::new(
        "const request = http.request();
         http.respond({ status: 200, body: request.method + Date.now() + Math.random() });
         await new Promise((done) => setTimeout(done, 5));",
    );
    let tried = world.attempt(&[]);
    assert_eq!(tried.ran.end, JobEnd::Succeeded);
    assert!(tried.entries.is_empty(), "{:?}", tried.entries);
}

#[test]
fn a_call_begins_when_what_the_program_has_seen_is_stored() {
    let world = World::new(
        "const at = Date.now();
         await runtime.run({ name: 'a' + at, command: { path: 'x' } });",
    );
    let first = world.attempt(&[]);
    assert_eq!(first.entries[0].kind, "clock");
    // The agent died while the step ran: it is the same step that is run again.
    let second = world.attempt(&first.entries[..1]);
    assert_eq!(second.calls, first.calls);
}

/// Another program with the journal of the first.
fn diverges(first: &'static str, second: &'static str, said: &str) {
    let journal = World::new(first).attempt(&[]);
    assert_eq!(journal.ran.end, JobEnd::Succeeded, "{}", journal.ran.log());
    let tried = World::new(second).attempt(&journal.entries);
    let JobEnd::Diverged { message } = &tried.ran.end else {
        panic!("{:?}: {}", tried.ran.end, tried.ran.log());
    };
    assert!(message.contains(said), "{message}");
    assert!(tried.calls.is_empty(), "nothing is done: {:?}", tried.calls);
}

const TWO: &str = "await runtime.run({ name: 'a', command: { path: 'x' } }); await runtime.run({ name: 'b', command: { path: 'x' } });";

#[test]
fn another_way_than_the_journals_is_noticed_and_nothing_is_done() {
    diverges(
        TWO,
        "await runtime.run({ name: 'a', command: { path: 'y' } }); await fetch('http://x/');",
        "call 1 is runtime.run 'a', and was runtime.run 'a' with other arguments in attempt 1",
    );
    diverges(
        TWO,
        "await fetch('http://x/').catch(() => {}); await fetch('http://y/');",
        "call 1 is fetch, and was runtime.run 'a'",
    );
    diverges(
        TWO,
        "await runtime.run({ name: 'a', command: { path: 'x' } });",
        "call 2, runtime.run 'b', which ended in attempt 1, was not made",
    );
    diverges(
        TWO,
        "await runtime.run({ name: 'a', command: { path: 'x' } }); await new Promise(() => {});",
        "was not made",
    );
    diverges(TWO, "throw new Error('early')", "was not made");
    diverges(
        "await new Promise((done) => setTimeout(done, 1)); await runtime.run({ name: 'a', command: { path: 'x' } });",
        "await runtime.run({ name: 'a', command: { path: 'x' } });",
        "timer 1, which fired then, was not set",
    );
    diverges(
        "Date.now(); await runtime.run({ name: 'a', command: { path: 'x' } });",
        "await runtime.run({ name: 'a', command: { path: 'x' } });",
        "the program ended before the journal did",
    );
}

const VOLUMES: &str = "
    const src = await volumes.create({ name: 'src' });
    const other = await volumes.create({ name: 'other' });
    await runtime.run({ name: 'checkout', command: { path: 'x' }, mounts: { src } });
    await runtime.run({ name: 'lint', command: { path: 'x' }, mounts: { other: other } });
    await runtime.run({ name: 'plain', command: { path: 'x' } });
    await runtime.run({ name: 'build', command: { path: 'x' }, mounts: { a: src, b: other } });
    await runtime.run({ name: 'last', command: { path: 'x' } });";

#[test]
fn only_the_steps_that_mounted_a_dead_volume_run_again() {
    let mut world = World::new(VOLUMES);
    let first = world.attempt(&[]);
    assert_eq!(first.ran.end, JobEnd::Succeeded, "{}", first.ran.log());
    // The agent dies before its last step has ended.
    let died = &first.entries[..first.entries.len() - 1];
    let second = world.attempt(died);
    assert_eq!(second.ran.end, JobEnd::Succeeded, "{}", second.ran.log());
    assert_eq!(
        second.calls,
        [
            "volume",
            "volume",
            "run checkout",
            "run lint",
            "run build",
            "run last"
        ]
    );
    let said = second.ran.system();
    assert!(said.contains("volume 'src' is gone"), "{said}");
    assert!(
        said.contains("runtime.run 'checkout' is done again: its volume 'src' is gone"),
        "{said}"
    );
    world.volumes_live = true;
    let third = world.attempt(died);
    assert_eq!(third.ran.end, JobEnd::Succeeded, "{}", third.ran.log());
    assert_eq!(third.calls, ["run last"]);
    // What was done again replaces what is known.
    let fourth = world.attempt(&second.entries);
    assert_eq!((fourth.ran.end, fourth.calls.len()), (JobEnd::Succeeded, 0));
}

#[test]
fn sandboxes_are_started_anew_and_their_commands_run_again() {
    let world = World::new(
        "const box = await runtime.startSandbox({ name: 's', image: 'i' });
         await runtime.run({ name: 'plain', command: { path: 'x' } });
         await box.exec({ command: { path: 'one' } });
         await box.close();
         await runtime.run({ name: 'last', command: { path: 'x' } });",
    );
    let first = world.attempt(&[]);
    assert_eq!(first.ran.end, JobEnd::Succeeded, "{}", first.ran.log());
    let second = world.attempt(&first.entries[..first.entries.len() - 1]);
    assert_eq!(second.ran.end, JobEnd::Succeeded, "{}", second.ran.log());
    assert_eq!(second.calls, ["sandbox", "exec one", "close", "run last"]);
}

#[test]
fn a_journal_that_ends_lets_the_job_go_on() {
    let memory = Memory {
        full_after: Some(1),
        ..Memory::default()
    };
    let tried = World::new(RACE).attempt_into(&[], memory);
    assert_eq!(tried.ran.end, JobEnd::Succeeded);
    assert_eq!(tried.calls.len(), 4);
    assert!(tried.entries.len() <= 1);
}

#[test]
fn an_entry_of_another_kind_is_not_guessed_at() {
    let entry = |kind: &str, data: &'static str| Entry {
        kind: kind.to_owned(),
        data: data.into(),
        ..Entry::default()
    };
    for wrong in [
        entry("future", "{}"),
        entry("done", "no json"),
        entry("seed", "{}"),
        entry("clock", "{\"runs\":[[-1,2]]}"),
        entry("done", "{\"run\":{}}"),
    ] {
        assert!(Tape::read(&[wrong]).is_err());
    }
}

#[test]
fn the_real_date_is_out_of_reach_and_dates_stay_dates() {
    let world = World::new(
        "const now = Date.now();
         const date = new Date();
         console.log(date instanceof Date, date.constructor === Date, Object.prototype.toString.call(date), Date.length,
           Date.name, typeof Date(), new Date(0).toISOString(), new Date(2020, 1, 3, 4).getHours(), Date.UTC(1970, 0, 2),
           Date.parse('1970-01-01T00:00:01Z'), Math.abs(date - now) < 1000, class extends Date {}.now() >= now,
           new (class A extends Date {})() instanceof Date, performance.now() >= 0);",
    );
    let tried = world.attempt(&[]);
    assert_eq!(
        tried.ran.stdout(),
        "true true [object Date] 7 Date string 1970-01-01T00:00:00.000Z 4 86400000 1000 true true true true\n",
        "{}",
        tried.ran.log()
    );
}
