//! Steps of an attempt that two processes of its agent work on.

use super::*;
use crate::attempt::Outlet;
use crate::attempt::Reports;
use crate::container::OutputStream;
use crate::log::{AttemptLog, Buffers};
use crate::state::StateDir;
use pb::agent_message::Kind as Message;
use std::sync::atomic::{AtomicU32, Ordering};

/// Counts how often it runs.
#[derive(Default)]
struct Once(AtomicU32);

#[async_trait]
impl Runner for Once {
    async fn run(
        &self,
        _: StepSpec,
        output: mpsc::Sender<Output>,
        _: CancellationToken,
    ) -> Result<StepExit, DriverError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let text = Bytes::from_static(b"output");
        let _ = output.send((OutputStream::Stdout, text)).await;
        Ok(StepExit::Exited {
            code: 0,
            oom: false,
        })
    }

    fn kind(&self) -> (&'static str, bool) {
        ("run", false)
    }
}

fn wanted(call: u32) -> Wanted {
    Wanted {
        call,
        timeout: None,
        retries: 0,
        sink: None,
        max_output_bytes: 1 << 20,
    }
}

fn assign() -> pb::Assign {
    pb::Assign {
        r#ref: Some(pb::AttemptRef::default()),
        durable: true,
        ..pb::Assign::default()
    }
}

fn empty(outlet: Option<Outlet>, seq: u32) -> Attempt {
    let reference = pb::AttemptRef::default();
    let (ready, _) = mpsc::unbounded_channel();
    let buffers = Arc::new(Buffers::in_memory());
    Attempt::new(
        reference.clone(),
        Reports::resumed(reference.clone(), outlet, seq),
        Arc::new(AttemptLog::new(reference, buffers, ready)),
        Duration::from_secs(60),
        1 << 20,
    )
}

#[tokio::test]
async fn a_step_whose_end_is_not_in_the_journal_is_not_run_again_and_its_number_is_not_given_again()
{
    let folder = tempfile::tempdir().unwrap();
    let state = StateDir::open(folder.path()).unwrap();
    let runner = Once::default();
    let first = empty(None, 0).kept_in(state.file(&assign()));
    for call in [3, 4] {
        let ran = run(&first, &runner, StepSpec::default(), wanted(call)).await;
        assert_eq!(ran.unwrap().step, call - 2);
    }
    // Its agent dies when the journal has the end of the second call alone; the server has the first report.
    first.file.as_ref().unwrap().settle([4]);
    first.file.as_ref().unwrap().keep();
    drop(first);
    let (session, mut sent) = mpsc::unbounded_channel();
    let (uploads, _uploaded) = mpsc::unbounded_channel();
    let outlet = Outlet { session, uploads };
    let second = empty(Some(outlet), 1).resumed(&state.saved()[0], 1);
    let again = run(&second, &runner, StepSpec::default(), wanted(3)).await;
    assert!(again.is_err());
    assert_eq!(runner.0.load(Ordering::SeqCst), 2, "not a third time");
    assert_eq!(second.end_of_abort().reason, "agent_lost");
    let Some(Message::Report(told)) = sent.recv().await.and_then(|message| message.kind) else {
        panic!("the end is told");
    };
    let end = pb::StepFinished {
        step: 1,
        status: "abort".into(),
        ..Default::default()
    };
    assert!(
        matches!(&told.kind, Some(Kind::StepFinished(told)) if told.step == end.step && told.status == end.status),
        "{told:?}"
    );
    assert_eq!(second.next_step(), 3);
}
