//! Where a journal ends and the work begins: timers, calls that were under way, what is done again beside them.

use crate::support::*;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pocketci_agent::container::OutputStream;
use pocketci_agent::js::JobEnd;
use pocketci_agent::js::host::{Answer, Request, RunRequest};
use pocketci_agent::js::journal::{Entry, Journal, Kept, Sink, Tape};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What is stored of a job.
#[derive(Clone, Default)]
struct Stored(Arc<Mutex<Vec<Entry>>>);

impl Stored {
    fn entries(&self) -> Vec<Entry> {
        self.0.lock().unwrap().clone()
    }

    fn has(&self, kind: &str) -> bool {
        self.entries().iter().any(|entry| entry.kind == kind)
    }
}

impl Sink for Stored {
    fn append(&self, entries: Vec<Entry>) -> BoxFuture<'static, Kept> {
        self.0.lock().unwrap().extend(entries);
        async { Kept::Stored }.boxed()
    }

    fn redact(&self, text: &str) -> String {
        text.to_owned()
    }

    fn redact_bytes(&self, bytes: &Bytes) -> Bytes {
        bytes.clone()
    }
}

/// What a step or command does; it can look at what is stored by then.
type Does = dyn Fn(RunRequest, Stored) -> BoxFuture<'static, ()> + Send + Sync;

struct Tried {
    ran: Ran,
    entries: Vec<Entry>,
}

impl Tried {
    #[track_caller]
    fn succeeded(self) -> Self {
        assert_eq!(self.ran.end, JobEnd::Succeeded, "{}", self.ran.log());
        self
    }
}

/// A case with this journal; steps, and commands of sandboxes, do what `does` says.
fn case(body: &str, tape: &[Entry], does: Arc<Does>) -> (Case, Stored) {
    let stored = Stored(Arc::new(Mutex::new(tape.to_vec())));
    let here = stored.clone();
    let mut case = Case::body(body).step(move |request| {
        let done = does(request.clone(), here.clone());
        Box::pin(async move {
            done.await;
            Ok(result(0, "", ""))
        })
    });
    case.host.call = Arc::new(|request| match request {
        Request::StartSandbox(_) => Ok(Answer::Json(json!("sandbox-1"))),
        Request::CreateVolume { name } => Ok(Answer::Json(json!({ "name": name, "path": "/v" }))),
        _ => Ok(Answer::Nothing),
    });
    case.host.exec_as_step = true;
    case.host.journal = Mutex::new(Some(Journal {
        tape: Tape::read(tape).unwrap(),
        sink: Arc::new(stored.clone()),
    }));
    (case, stored)
}

fn attempt(
    body: &str,
    tape: &[Entry],
    does: impl Fn(RunRequest, Stored) -> BoxFuture<'static, ()> + Send + Sync + 'static,
) -> Tried {
    let (case, stored) = case(body, tape, Arc::new(does));
    let ran = case.run();
    let entries = stored.entries();
    Tried { ran, entries }
}

fn nothing(_: RunRequest, _: Stored) -> BoxFuture<'static, ()> {
    async {}.boxed()
}

/// The step with this name takes so many milliseconds.
fn takes(
    slow: &'static str,
    ms: u64,
) -> impl Fn(RunRequest, Stored) -> BoxFuture<'static, ()> + Send + Sync + 'static {
    move |request, _| {
        async move {
            if request.name == slow {
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
        }
        .boxed()
    }
}

/// The journal as it would be had its job run that long ago: what entered, and when it began.
fn aged(entries: &[Entry], entered_ms: u64, began_ms: u64) -> Vec<Entry> {
    let older = |entry: &Entry| {
        let mut data: Value = serde_json::from_slice(&entry.data).unwrap();
        if let Some(at) = data["at"].as_u64() {
            data["at"] = json!(at - entered_ms);
        }
        if let Some(began) = data["began"].as_u64() {
            data["began"] = json!(began - began_ms);
        }
        Entry {
            data: Bytes::from(data.to_string()),
            ..entry.clone()
        }
    };
    entries.iter().map(older).collect()
}

/// The journal until this call has ended.
fn until_end(entries: &[Entry], call: u32) -> Vec<Entry> {
    let ended = entries
        .iter()
        .position(|entry| entry.kind == "done" && entry.call == call);
    entries[..=ended.unwrap()].to_vec()
}

const SLEEPS: &str = "
    const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
    await runtime.run({ name: 'a', command: { path: 'x' } });
    await sleep(1_000);
    let ticks = 0;
    setInterval(() => ticks++, 100);
    await sleep(450);
    console.log(ticks);
    return;";

#[test]
fn timers_set_after_the_journal_take_their_time() {
    let body = SLEEPS
        .replace("setInterval", "const tick = setInterval")
        .replace("return;", "clearInterval(tick);");
    let first = attempt(&body, &[], nothing).succeeded();
    let tape = aged(&until_end(&first.entries, 1), 60_000, 60_000);
    let begun = Instant::now();
    let second = attempt(&body, &tape, nothing).succeeded();
    // The first of them had been set a minute ago.
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(450), "{took:?}");
    assert!(took < Duration::from_millis(1_400), "{took:?}");
    let ticks: u32 = second.ran.stdout().trim().parse().unwrap();
    assert!((1..=5).contains(&ticks), "{ticks}");
}

#[test]
fn a_timer_set_at_the_start_counts_from_there() {
    let body = "
        const timer = new Promise((done) => setTimeout(() => done('timer'), 60_000));
        await runtime.run({ name: 'a', command: { path: 'x' } });
        const slow = runtime.run({ name: 'slow', command: { path: 'x' } }).then(() => 'step');
        console.log(await Promise.race([timer, slow]));";
    // In the first attempt the step is quick.
    let limited = body.replace("60_000", "1");
    let first = attempt(&limited, &[], nothing).succeeded();
    let tape: Vec<Entry> = until_end(&first.entries, 1);
    // The job began 59.5 s ago, its first step ended ten seconds ago.
    let tape = aged(&tape, 10_000, 59_500);
    let tape: Vec<Entry> = tape
        .into_iter()
        .filter(|entry| entry.kind != "timers")
        .collect();
    let second = attempt(
        &format!("{body}\nthrow new Error('over')"),
        &tape,
        takes("slow", 5_000),
    );
    assert_eq!(second.ran.stdout(), "timer\n", "{}", second.ran.log());
}

#[test]
fn what_a_held_call_was_made_of_is_stored_before_it_begins() {
    let body = "
        const b = runtime.run({ name: 'b', command: { path: 'x' } });
        await runtime.run({ name: 'a', command: { path: 'x' } });
        const c = runtime.run({ name: 'c', command: { path: crypto.randomUUID() } });
        await b; await c;";
    let first = attempt(body, &[], takes("b", 50)).succeeded();
    // The agent died when it had stored both ends, before the third call.
    let ends = first
        .entries
        .into_iter()
        .filter(|entry| entry.kind == "done" && entry.call < 3);
    let tape: Vec<Entry> = ends.collect();
    assert_eq!(tape.len(), 2);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = seen.clone();
    attempt(body, &tape, move |request, stored| {
        let told = told.clone();
        async move {
            let seed = stored.has("seed");
            told.lock().unwrap().push((request.name, seed));
        }
        .boxed()
    })
    .succeeded();
    assert_eq!(*seen.lock().unwrap(), [("c".to_owned(), true)]);
}

#[test]
fn a_server_in_a_sandbox_runs_while_the_commands_that_need_it_run_again() {
    let body = "
        const box = await runtime.startSandbox({ name: 's', image: 'i' });
        const server = box.exec({ name: 'server', command: { path: 'x' } });
        await box.exec({ name: 'test', command: { path: 'x' } });
        await runtime.run({ name: 'last', command: { path: 'x' } });
        await server;
        console.log('over');";
    let first = attempt(body, &[], takes("server", 100)).succeeded();
    let tape = until_end(&first.entries, 3);
    let (up, serves) = tokio::sync::watch::channel(false);
    let up = Arc::new(up);
    let second = attempt(body, &tape, move |request, _| {
        let (up, mut serves) = (up.clone(), serves.clone());
        async move {
            match request.name.as_str() {
                "server" => {
                    up.send_replace(true);
                }
                "test" => {
                    let served = serves.wait_for(|up| *up);
                    let served = tokio::time::timeout(Duration::from_secs(5), served)
                        .await
                        .is_ok();
                    assert!(served, "the server is not there");
                    // Its end comes before the test's.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                _ => {}
            }
        }
        .boxed()
    })
    .succeeded();
    assert_eq!(second.ran.stdout(), "over\n");
    let third = attempt(body, &second.entries, nothing).succeeded();
    assert_eq!(third.ran.stdout(), "over\n");
}

/// What a step prints, piece by piece.
async fn print(request: RunRequest, step: u32, resumes: bool, pieces: &[&'static str]) {
    if let Some(output) = &request.output {
        let output = output.of_step(step, resumes);
        for piece in pieces {
            let piece = Bytes::from_static(piece.as_bytes());
            output.send(OutputStream::Stdout, piece).await;
        }
    }
}

#[test]
fn a_step_that_goes_on_tells_its_output_once() {
    let body = "
        let heard = '';
        const talk = runtime.run({ name: 'talk', command: { path: 'x' }, onOutput: (_, text) => heard += text });
        await runtime.run({ name: 'b', command: { path: 'x' } });
        await talk;
        console.log(heard);";
    let first = attempt(body, &[], |request, _| {
        async move {
            match request.name.as_str() {
                "talk" => {
                    // A try that failed, and the next one.
                    print(request.clone(), 1, false, &["failed,"]).await;
                    print(request, 2, false, &["one,", "two,"]).await;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        .boxed()
    })
    .succeeded();
    let tape = until_end(&first.entries, 2);
    assert!(tape.iter().any(|entry| entry.kind == "output"));
    let again = |resumes| {
        attempt(body, &tape, move |request, _| {
            async move { print(request, 2, resumes, &["one,tw", "o,three"]).await }.boxed()
        })
        .succeeded()
    };
    assert_eq!(again(true).ran.stdout(), "failed,one,two,three\n");
    // Run anew, it says everything anew.
    assert_eq!(again(false).ran.stdout(), "failed,one,two,one,two,three\n");
}

#[test]
fn output_of_a_command_that_ran_again_is_what_it_printed_then() {
    let body = "
        const box = await runtime.startSandbox({ name: 's', image: 'i' });
        let heard = '';
        await box.exec({ name: 'talk', command: { path: 'x' }, onOutput: (_, text) => heard += text });
        await runtime.run({ name: heard, command: { path: 'x' } });
        await runtime.run({ name: 'last', command: { path: 'x' } });
        console.log(heard);";
    let says = |word: &'static str| {
        move |request: RunRequest, _: Stored| {
            async move { print(request, 0, false, &[word, "!"]).await }.boxed()
                as BoxFuture<'static, ()>
        }
    };
    let first = attempt(body, &[], says("old")).succeeded();
    let second = attempt(body, &until_end(&first.entries, 2), says("new")).succeeded();
    assert_eq!(second.ran.stdout(), "new!\n");
    let third = attempt(body, &until_end(&second.entries, 3), says("new")).succeeded();
    assert_eq!(third.ran.stdout(), "new!\n");
}

const VOLUME: &str = "
    const src = await volumes.create({ name: 'src' });
    let heard = '';
    const talk = runtime.run({ name: 'talk', command: { path: 'x' }, mounts: { src }, onOutput: (_, text) => heard += text });
    await talk;
    await runtime.run({ name: heard, command: { path: 'x' } });
    console.log(heard);";

#[test]
fn a_step_that_ran_again_is_taken_with_its_new_output() {
    let says = |word: &'static str| {
        move |request: RunRequest, _: Stored| {
            async move { print(request, 0, false, &[word, "!"]).await }.boxed()
                as BoxFuture<'static, ()>
        }
    };
    let first = attempt(VOLUME, &[], says("old")).succeeded();
    let second = attempt(VOLUME, &until_end(&first.entries, 2), says("new")).succeeded();
    assert_eq!(second.ran.stdout(), "new!\n");
    // Now the volume is there, and nothing is done again.
    let (mut case, _) = case(VOLUME, &second.entries, Arc::new(says("never")));
    case.host.volumes_live = true;
    let third = case.run().succeeded();
    assert_eq!(third.stdout(), "new!\n");
}

#[test]
fn a_cancelled_replay_waits_for_nothing_that_was_not_begun() {
    let body = "
        const src = await volumes.create({ name: 'src' });
        await Promise.all([
          runtime.run({ name: 'again', command: { path: 'x' }, mounts: { src } }),
          runtime.run({ name: 'taken', command: { path: 'x' } }),
        ]);";
    let first = attempt(body, &[], takes("taken", 50)).succeeded();
    let cancel = tokio_util::sync::CancellationToken::new();
    let stop = cancel.clone();
    let (mut second, _) = case(
        body,
        &first.entries,
        Arc::new(move |_, _| {
            let stop = stop.clone();
            async move { stop.cancel() }.boxed()
        }),
    );
    second.cancel = cancel;
    let begun = Instant::now();
    let ran = second.run();
    assert_eq!(ran.end, JobEnd::Aborted, "{}", ran.log());
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
}
