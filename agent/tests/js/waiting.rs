//! When a job is over.

use crate::support::{Case, result};
use std::time::Duration;

#[test]
fn any_kind_of_return_value_is_ignored() {
    for program in [
        "export const pipeline = () => {};",
        "export const pipeline = () => 5;",
        "export const pipeline = async () => ({ status: 'failure' });",
        "export const pipeline = () => ({ then(resolve) { resolve(1) } });",
        "export function pipeline() { if (arguments.length || this !== undefined) throw 1; }",
        "const v = await Promise.resolve(1); export const pipeline = async () => { if (v !== 1) throw 1 };",
        "await runtime.run({}); export const pipeline = async () => {};",
    ] {
        Case::new(program).run().succeeded();
    }
    let ran = Case::new(
        "export const pipeline = () => ({ then(_, reject) { reject(new Error('no')) } });",
    )
    .run();
    assert!(ran.failed().starts_with("Error: no"));
}

#[test]
fn a_promise_nothing_can_settle_is_a_failure() {
    let ran = Case::body("await new Promise(() => {});").run();
    assert!(
        ran.failed()
            .contains("waits for a promise that nothing can settle any more"),
        "{}",
        ran.failed()
    );
    let ran = Case::new("await new Promise(() => {}); export const pipeline = () => {};").run();
    assert!(
        ran.failed().contains("nothing can settle"),
        "{}",
        ran.failed()
    );
}

#[test]
fn steps_that_are_not_awaited_still_end_first() {
    let ran = Case::body("runtime.run({ name: 'x' }).then((r) => console.log('ended', r.code)); console.log('returned');")
        .step(|_| {
            Box::pin(async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok(result(3, "", ""))
            })
        })
        .run()
        .succeeded();
    assert_eq!(ran.stdout(), "returned\nended 3\n");
    let ran = Case::body("runtime.run({ name: 'x' });")
        .step(|_| Box::pin(async { Err("no such image".into()) }))
        .run();
    assert!(
        ran.failed()
            .starts_with("unhandled rejection: Error: no such image"),
        "{}",
        ran.failed()
    );
    assert!(ran.failed().contains("main.js:2:"), "{}", ran.failed());
}

#[test]
fn steps_run_at_the_same_time() {
    let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(3));
    let ran = Case::body(
        "const r = await Promise.all([1, 2, 3].map((n) => runtime.run({ name: `${n}` })));
         console.log(r.map((r) => r.stdout).join());",
    )
    .step(move |request| {
        let barrier = barrier.clone();
        Box::pin(async move {
            barrier.wait().await;
            Ok(result(0, &request.name, ""))
        })
    })
    .run()
    .succeeded();
    assert_eq!(ran.stdout(), "1,2,3\n");
}

#[test]
fn timers_fire_in_order_and_can_be_cleared() {
    let ran = Case::body(
        "const log = (...a) => console.log(...a);
         setTimeout(log, 20, 'c', 1); setTimeout(log, 0, 'a'); setTimeout(log, 0, 'b');
         clearTimeout(setTimeout(log, 1, 'never')); clearTimeout(undefined); clearTimeout(99); clearInterval({});
         let n = 0; const id = setInterval(() => { log('i', ++n); if (n === 2) clearInterval(id); }, 30);
         queueMicrotask(() => log('micro')); log('sync');",
    )
    .run()
    .succeeded();
    assert_eq!(ran.stdout(), "sync\nmicro\na\nb\nc 1\ni 1\ni 2\n");
    let ran = Case::body("setTimeout('code', 1)").run();
    assert!(
        ran.failed()
            .contains("setTimeout: a function is expected, got a string"),
        "{}",
        ran.failed()
    );
    let ran = Case::body("for (;;) setTimeout(() => {}, 1e6)").run();
    assert!(
        ran.failed().contains("more than 10000 timers"),
        "{}",
        ran.failed()
    );
}

#[test]
fn a_host_that_panics_or_drops_a_step_rejects_it() {
    let ran = Case::body("try { await runtime.run({}) } catch (e) { console.log(e.message) }")
        .step(|_| Box::pin(async { panic!("host") }))
        .run()
        .succeeded();
    assert!(
        ran.stdout().contains("defect of PocketCI"),
        "{}",
        ran.stdout()
    );
}

#[test]
fn a_host_that_panics_on_the_pipelines_thread_is_an_internal_error_and_drops_the_steps() {
    let mut case = Case::body("runtime.run({}); webhookTrigger('x');").webhook(&[], b"");
    let held = std::sync::Arc::new(());
    let step = held.clone();
    case.host.trigger_panics = true;
    case.host.step = Box::new(move |_| {
        let step = step.clone();
        Box::pin(async move {
            let _step = step;
            std::future::pending().await
        })
    });
    let ran = case.run();
    assert_eq!(ran.errored().0, "internal");
    drop(ran);
    assert_eq!(
        std::sync::Arc::strong_count(&held),
        1,
        "the step's future is gone"
    );
}
