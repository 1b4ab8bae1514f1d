//! What a connecting agent says to hold: it goes on, stops, or drops it.

use super::convert::{Ref, attempt_ref, log_end};
use super::{Link, store_status};
use crate::model::transition::{Applied, Change};
use crate::runs::dispatch::SessionEntry;
use pocketci_proto::agent as pb;
use tonic::Status;

/// For each attempt that the agent still has: go on, stop gracefully, or drop it.
pub(super) async fn adopt(
    link: &Link,
    entry: &SessionEntry,
    held: Vec<pb::Held>,
) -> Result<Vec<pb::HeldVerdict>, Status> {
    use pb::held_verdict::Action;
    let mut verdicts = Vec::with_capacity(held.len());
    for item in held {
        let attempt = attempt_ref(item.r#ref)?;
        let change = Change::Adopt {
            job_id: attempt.job_id,
            attempt: attempt.attempt,
            agent_id: entry.agent_id,
            session_id: entry.session_id,
            lease: link.runs().settings().lease,
        };
        let applied = link.runs().store().submit(attempt.run_id, change).await;
        let mut log_ends = Vec::new();
        let (action, report_seq, log_seq) = match applied.map_err(|error| store_status(&error))? {
            Applied::Adopted {
                report_seq,
                log_seq,
                cancel,
            } => {
                entry.hold(attempt.job_id);
                if item.restarted {
                    log_ends = stored_log_ends(link, attempt).await?;
                }
                let action = if cancel {
                    Action::Cancel
                } else {
                    Action::Continue
                };
                (action, report_seq, log_seq)
            }
            _ => (Action::Kill, 0, 0),
        };
        verdicts.push(pb::HeldVerdict {
            r#ref: Some(attempt.to_wire()),
            action: action.into(),
            report_seq: u32::try_from(report_seq).unwrap_or(0),
            log_seq: u64::try_from(log_seq).unwrap_or(0),
            log_ends,
        });
    }
    Ok(verdicts)
}

/// What a restarted agent passes over when it reads a step's output from its beginning.
async fn stored_log_ends(link: &Link, attempt: Ref) -> Result<Vec<pb::LogEnd>, Status> {
    let store = link.runs().store();
    let offsets = store
        .log_offsets(attempt.run_id, attempt.job_id, attempt.attempt)
        .await
        .map_err(|error| store_status(&error))?;
    Ok(offsets.ends.into_iter().map(log_end).collect())
}
