//! Rules of approvals: opened once, decided once, in time, while the run is under way.

use crate::story::*;
use pocketci_server::model::gate::{Decision, Gate, GateStatus, NewGate};
use pocketci_server::model::run::Outcome;
use pocketci_server::model::{GateId, JobId, RunId};
use pocketci_server::store::GateFilter;
use std::time::Duration;

fn new(run_id: RunId, job_id: JobId, call: i32, timeout: Duration) -> NewGate {
    NewGate {
        id: GateId::new(),
        run_id,
        job_id,
        call,
        name: format!("gate {call}"),
        message: "really?".into(),
        timeout,
    }
}

fn decision(status: GateStatus, actor: &str) -> Decision {
    Decision {
        status,
        actor: actor.into(),
        comment: "because".into(),
    }
}

async fn decide(store: &Shared, gate: &Gate, status: GateStatus, actor: &str) -> (Gate, bool) {
    let decided = store.decide_gate(gate.id, decision(status, actor)).await;
    decided.unwrap().unwrap()
}

pub async fn a_gate_is_opened_once_for_a_call(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = running(&store, &build, &ann).await;
    let first = store
        .open_gate(new(attempt.run, attempt.job, 0, LONG))
        .await
        .unwrap();
    assert_eq!(
        (first.status, first.decided_at),
        (GateStatus::Pending, None)
    );
    assert_eq!(first.expires_at - first.opened_at, LONG);
    let again = store
        .open_gate(new(attempt.run, attempt.job, 0, LONG))
        .await
        .unwrap();
    assert_eq!(again, first);
    let other = store
        .open_gate(new(attempt.run, attempt.job, 1, LONG))
        .await
        .unwrap();
    assert_ne!(other.id, first.id);
    assert_eq!(store.gate(first.id).await.unwrap(), Some(first));
    assert_eq!(store.gate(GateId::new()).await.unwrap(), None);
}

pub async fn the_first_decision_counts(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = running(&store, &build, &ann).await;
    let gate = store
        .open_gate(new(attempt.run, attempt.job, 0, LONG))
        .await
        .unwrap();
    let (early, won) = decide(&store, &gate, GateStatus::TimedOut, "timeout").await;
    assert!(!won && early.status == GateStatus::Pending);
    let racing = ["eve", "bob", "zoe"].map(|actor| {
        let (store, gate) = (store.clone(), gate.clone());
        async move { decide(&store, &gate, GateStatus::Approved, actor).await }
    });
    let decided = futures_util::future::join_all(racing).await;
    assert_eq!(decided.iter().filter(|(_, won)| *won).count(), 1);
    let stored = store.gate(gate.id).await.unwrap().unwrap();
    let (winner, _) = decided.into_iter().find(|(_, won)| *won).unwrap();
    assert_eq!(stored, winner);
    assert!(stored.decided_at.is_some() && stored.comment == "because");
    let (after, won) = decide(&store, &gate, GateStatus::Rejected, "late").await;
    assert!(!won);
    assert_eq!(after, stored);
    let unknown = store
        .decide_gate(GateId::new(), decision(GateStatus::Approved, "x"))
        .await;
    assert!(unknown.unwrap().is_none());
}

pub async fn an_expired_gate_can_only_time_out(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = running(&store, &build, &ann).await;
    let gate = store
        .open_gate(new(attempt.run, attempt.job, 0, Duration::ZERO))
        .await
        .unwrap();
    assert!(!decide(&store, &gate, GateStatus::Approved, "eve").await.1);
    let (gate, won) = decide(&store, &gate, GateStatus::TimedOut, "timeout").await;
    assert!(won && gate.status == GateStatus::TimedOut);
}

pub async fn a_gate_of_a_run_that_is_over_cannot_be_decided(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut attempt = running(&store, &build, &ann).await;
    let gate = store
        .open_gate(new(attempt.run, attempt.job, 0, LONG))
        .await
        .unwrap();
    attempt.finish(Outcome::Aborted).await;
    assert!(!decide(&store, &gate, GateStatus::Approved, "eve").await.1);
    store.delete_pipeline(build.id).await.unwrap();
    assert_eq!(store.gate(gate.id).await.unwrap(), None);
}

pub async fn open_gates_are_listed_with_their_pipelines(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = running(&store, &build, &ann).await;
    let first = store
        .open_gate(new(attempt.run, attempt.job, 0, LONG))
        .await
        .unwrap();
    let expired = store
        .open_gate(new(attempt.run, attempt.job, 1, Duration::ZERO))
        .await
        .unwrap();
    let decided = store
        .open_gate(new(attempt.run, attempt.job, 2, LONG))
        .await
        .unwrap();
    decide(&store, &decided, GateStatus::Approved, "eve").await;
    let listed = |filter| {
        let store = store.clone();
        async move {
            let gates = store.gates(filter, 10).await.unwrap();
            assert!(gates.iter().all(|(_, pipeline)| pipeline == "build"));
            gates
                .into_iter()
                .map(|(gate, _)| gate.id)
                .collect::<Vec<_>>()
        }
    };
    let open = GateFilter {
        run_id: None,
        open: true,
    };
    assert_eq!(listed(open.clone()).await, [first.id]);
    let all = GateFilter {
        run_id: Some(attempt.run),
        open: false,
    };
    assert_eq!(listed(all).await, [first.id, expired.id, decided.id]);
    let other = GateFilter {
        run_id: Some(RunId::new()),
        open: false,
    };
    assert!(listed(other).await.is_empty());
}
