//! What stops a program that does not stop by itself.

use crate::support::{Case, Ran, runtime};
use pocketci_agent::js::JobEnd;
use std::time::{Duration, Instant};

/// Runs a program that never ends by itself, cancels it once it runs, and says how long the end took from then.
fn cancelled_spinning(body: &str) -> (JobEnd, Duration) {
    let mut case = Case::body(&format!("console.log('spin');\n{body}"));
    let (spoke, spins) = std::sync::mpsc::channel();
    case.host.spoke = Some(spoke);
    let cancel = case.cancel.clone();
    let watcher = std::thread::spawn(move || {
        spins.recv_timeout(Duration::from_secs(20)).unwrap();
        let at = Instant::now();
        cancel.cancel();
        at
    });
    let ran = case.run();
    let at = watcher.join().unwrap();
    (ran.end, at.elapsed())
}

#[test]
fn an_endless_loop_ends_with_the_cancellation() {
    let (end, took) = cancelled_spinning("for (;;) {}");
    assert_eq!(end, JobEnd::Aborted);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn nothing_catches_the_interrupt() {
    for body in [
        "for (;;) { try { for (;;) {} } catch {} finally { for (;;) {} } }",
        "for (;;) { await null; }",
        "const f = async () => { for (;;) {} }; try { await f(); } catch {} for (;;) {}",
        "new Promise(() => { for (;;) {} }).catch(() => { for (;;) {} }); for (;;) {}",
        "const o = { toString() { for (;;) {} } }; for (;;) { try { console.log('%s', { get a() { for (;;) {} } }, `${o}`); } catch {} }",
        "const loop = () => Promise.resolve().then(loop); await loop();",
        "function* g() { try { for (;;) yield 1; } finally { for (;;) {} } } for (const x of g()) { }",
        "setInterval(() => { try { for (;;) {} } catch {} }, 1); await new Promise(() => {});",
        "/(a+)+$/.test('a'.repeat(50) + 'b'); for (;;) {}",
        "for (;;) { try { http.respond({ get status() { for (;;) {} } }); throw 1; } catch {} }",
    ] {
        let (end, took) = cancelled_spinning(body);
        assert_eq!(end, JobEnd::Aborted, "{body}");
        assert!(took < Duration::from_secs(2), "{took:?} {body}");
    }
}

#[test]
fn a_program_that_swallows_interrupts_does_not_hold_its_caller() {
    for body in [
        "runtime.run({}); for (;;) new Promise(() => { for (;;) {} });",
        "for (;;) (async () => { for (;;) {} })();",
    ] {
        let (end, took) = cancelled_spinning(body);
        assert_eq!(end, JobEnd::Aborted, "{body}");
        assert!(took < Duration::from_secs(10), "{took:?} {body}");
    }
}

#[test]
fn waiting_ends_with_the_cancellation_too() {
    let (end, took) =
        cancelled_spinning("await new Promise((resolve) => setTimeout(resolve, 1e6));");
    assert_eq!(end, JobEnd::Aborted);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_job_cancelled_before_it_starts_runs_nothing() {
    let case = Case::new("console.log(1)");
    case.cancel.cancel();
    let ran = case.run();
    assert_eq!(ran.end, JobEnd::Aborted);
    assert_eq!(ran.log(), "");
}

#[test]
fn steps_under_way_get_to_end_after_the_cancellation_and_no_javascript_runs() {
    let case = Case::body(
        "try { await runtime.run({}); console.log('after'); } finally { console.log('finally'); }",
    );
    let cancel = case.cancel.clone();
    let stop = cancel.clone();
    let ended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = ended.clone();
    let ran = case
        .step(move |_| {
            let (stop, ended) = (stop.clone(), ended.clone());
            Box::pin(async move {
                stop.cancel();
                tokio::time::sleep(Duration::from_millis(200)).await;
                ended.store(true, std::sync::atomic::Ordering::SeqCst);
                Err("stopped".into())
            })
        })
        .run();
    assert_eq!(ran.end, JobEnd::Aborted);
    assert!(seen.load(std::sync::atomic::Ordering::SeqCst));
    assert_eq!(ran.log(), "");
}

#[test]
fn a_step_that_ignores_the_cancellation_is_dropped_after_its_grace() {
    let dropped = std::sync::Arc::new(());
    let held = dropped.clone();
    let mut case = Case::body("await runtime.run({})");
    let (told, started) = std::sync::mpsc::channel();
    case.host.step = Box::new(move |_| {
        let held = held.clone();
        let told = told.clone();
        Box::pin(async move {
            let _held = held;
            let _ = told.send(());
            std::future::pending().await
        })
    });
    let cancel = case.cancel.clone();
    let watcher = std::thread::spawn(move || {
        started.recv().unwrap();
        cancel.cancel();
    });
    let ran = case.run();
    watcher.join().unwrap();
    assert_eq!(ran.end, JobEnd::Aborted);
    drop(ran);
    assert_eq!(
        std::sync::Arc::strong_count(&dropped),
        1,
        "the future is gone"
    );
}

#[test]
fn processor_time_is_limited_and_waiting_is_not_processor_time() {
    let mut case = Case::body("try { for (;;) {} } catch {}");
    case.limits.cpu_time = Duration::from_millis(300);
    let ran = case.run();
    let (reason, message) = ran.errored();
    assert_eq!(reason, "cpu_limit");
    assert!(
        message.contains("0.3 s") && message.contains("raise"),
        "{message}"
    );

    let mut case = Case::body("await new Promise((r) => setTimeout(r, 700));");
    case.limits.cpu_time = Duration::from_millis(500);
    case.run().succeeded();
}

#[test]
fn memory_is_limited() {
    for body in [
        "const a = []; for (;;) a.push(new Array(1000).fill(1));",
        "const a = []; for (let i = 0; ; i++) a.push('x'.repeat(1 << 20) + i);",
        "const a = []; for (;;) a.push({ a });",
        "const a = []; for (;;) a.push(new Uint8Array(1 << 20));",
        "const m = new Map(); for (let i = 0; ; i++) m.set(i, `${i}`);",
        "const a = []; for (;;) a.push(new Promise(() => {}));",
    ] {
        let mut case = Case::body(body);
        case.limits.memory_bytes = 16 << 20;
        let ran = case.run();
        if matches!(ran.end, JobEnd::Failed { .. }) {
            // Not even an error fitted: the engine throws null, and the message says so.
            assert!(
                ran.failed().starts_with("thrown: null (the engine"),
                "{}",
                ran.failed()
            );
            assert!(ran.failed().contains("16 MiB"), "{}", ran.failed());
            continue;
        }
        let (reason, message) = ran.errored();
        assert_eq!(reason, "memory_limit", "{body}: {message}");
        assert!(message.contains("16 MiB"), "{message}");
    }
}

#[test]
fn a_context_that_does_not_fit_is_a_memory_limit() {
    for kib in [1, 64, 128, 200, 256, 300, 400] {
        let mut case = Case::body("");
        case.limits.memory_bytes = kib << 10;
        let ran = case.run();
        assert!(
            matches!(
                ran.end,
                JobEnd::Succeeded
                    | JobEnd::Errored {
                        reason: "memory_limit" | "internal",
                        ..
                    }
            ),
            "{kib} KiB: {:?}",
            ran.end
        );
    }
}

#[test]
fn deep_recursion_is_an_error_of_the_program() {
    for body in [
        "const f = (n) => f(n + 1) + 1; f(0);",
        "const o = { toString() { return `${o}`; } }; `${o}`;",
        "const o = { get a() { console.log(`${o.a}`); } }; o.a;",
        "let a = []; for (let i = 0; i < 1e5; i++) a = [a]; JSON.stringify(a);",
        "const o = { get status() { http.respond(o); return 1; } }; http.respond(o);",
        "JSON.parse('['.repeat(1e6));",
        "eval('('.repeat(1e6));",
        "new RegExp('('.repeat(1e5) + ')'.repeat(1e5));",
    ] {
        let ran = Case::body(body).webhook(&[], b"").run();
        let message = ran.failed();
        assert!(message.contains("main.js:2"), "{body}: {message}");
    }
    Case::body("try { const f = () => f(); f(); } catch (e) { console.log(e.name); }")
        .run()
        .succeeded();
    Case::body("let a = []; for (let i = 0; i < 1e5; i++) a = [a]; console.log(a);")
        .run()
        .succeeded();
}

#[test]
fn fifty_jobs_at_once_do_not_disturb_each_other() {
    let runtime = runtime();
    let threads: Vec<_> = (0..50)
        .map(|index| {
            let handle = runtime.handle().clone();
            std::thread::spawn(move || {
                let mut case = Case::body(
                    "globalThis.n = (globalThis.n ?? 0) + 1; const r = await runtime.run({ name: pipelineContext.runID });
                     console.log(pipelineContext.runID, n, r.stdout);",
                )
                .step(|request| Box::pin(async move { Ok(crate::support::result(0, &request.name, "")) }));
                case.job.run_id = format!("run-{index}");
                let host = std::sync::Arc::new(case.host);
                let end = pocketci_agent::js::execute(
                    &case.program, &case.job, &case.limits, host.clone(), handle, case.cancel,
                );
                (Ran { end, host }, index)
            })
        })
        .collect();
    for thread in threads {
        let (ran, index) = thread.join().unwrap();
        assert_eq!(
            ran.succeeded().stdout(),
            format!("run-{index} 1 run-{index}\n")
        );
    }
}
