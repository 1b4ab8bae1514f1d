//! Who of a concurrency group may go on: a pure decision over the runs that are not over.
//!
//! Invariants: at most `limit` runs of a group are admitted at a time, in the order in which they were stored; whoever
//! is stopped or skipped is told by which run. Deciding twice on the same picture gives the same, so a decision that
//! was lost with its server is simply made again.

use super::RunId;
use super::settings::{limit, on_conflict};
use pocketci_proto::api::{ConcurrencySettings, OnConflict};

/// A run of the group that is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Its id; ids grow with time.
    pub run_id: RunId,
    /// Whether its jobs may be handed out.
    pub admitted: bool,
    /// Whether it is to be stopped already.
    pub cancelled: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruling {
    /// Their jobs may be handed out now.
    pub admit: Vec<RunId>,
    /// To be stopped: the run, and the one that takes its place.
    pub supersede: Vec<(RunId, RunId)>,
    /// To end as skipped: the run, and the one in its way.
    pub skip: Vec<(RunId, RunId)>,
}

/// Decides on a group under `rule`; without a rule everybody is admitted.
pub fn decide(rule: Option<&ConcurrencySettings>, members: &[Member]) -> Ruling {
    let mut members = members.to_vec();
    members.sort_by_key(|member| member.run_id);
    let mut ruling = Ruling::default();
    let Some(rule) = rule else {
        ruling.admit = waiting(&members).map(|member| member.run_id).collect();
        return ruling;
    };
    let policy = on_conflict(rule);
    let limit = limit(rule);
    if matches!(policy, OnConflict::CancelQueued | OnConflict::CancelRunning) {
        supersede(&mut members, policy, limit, &mut ruling);
    }
    // What was told to stop still has its place until it has stopped.
    let mut taken: Vec<RunId> = admitted(&members).map(|member| member.run_id).collect();
    for member in waiting(&members) {
        if taken.len() < limit {
            taken.push(member.run_id);
            ruling.admit.push(member.run_id);
        } else if policy == OnConflict::Skip {
            ruling.skip.push((member.run_id, taken[taken.len() - 1]));
        }
    }
    ruling
}

fn admitted(members: &[Member]) -> impl Iterator<Item = &Member> {
    members.iter().filter(|member| member.admitted)
}

fn waiting(members: &[Member]) -> impl Iterator<Item = &Member> {
    members
        .iter()
        .filter(|member| !member.admitted && !member.cancelled)
}

/// The newest run takes the place of those before it that the policy names: of all beyond the newest `limit` with
/// cancel-running, of all that wait but the newest with cancel-queued. Who waits behind a newer one that is admitted has
/// been overtaken and gives way in any case, so that a decision that was carried out by half is completed.
fn supersede(members: &mut [Member], policy: OnConflict, limit: usize, ruling: &mut Ruling) {
    let live = |member: &&Member| !member.cancelled;
    let Some(newest) = members.iter().filter(live).map(|m| m.run_id).max() else {
        return;
    };
    let overtaken = admitted(members).filter(live).map(|m| m.run_id).max();
    let mut give_way = |member: &mut Member| {
        member.cancelled = true;
        ruling.supersede.push((member.run_id, newest));
    };
    for member in members.iter_mut().filter(|m| !m.cancelled && !m.admitted) {
        if overtaken.is_some_and(|newer| member.run_id < newer) {
            give_way(member);
        }
    }
    let running = admitted(members).filter(live).count();
    let places = limit.saturating_sub(running);
    // Somebody must wait for a place at all, or nobody gives way.
    if waiting(members).count() <= places {
        return;
    }
    // With cancel-queued the running ones keep their places and only one waits behind them.
    let stay = match policy {
        OnConflict::CancelRunning => limit,
        _ => places.max(1),
    };
    let may_go = |member: &&mut Member| {
        !member.cancelled && (!member.admitted || policy == OnConflict::CancelRunning)
    };
    for member in members.iter_mut().rev().filter(may_go).skip(stay) {
        give_way(member);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn id(number: u128) -> RunId {
        RunId(Uuid::from_u128(number))
    }

    fn members(admitted: &[u128], waiting: &[u128]) -> Vec<Member> {
        let member = |number: &u128, admitted| Member {
            run_id: id(*number),
            admitted,
            cancelled: false,
        };
        let on = admitted.iter().map(|number| member(number, true));
        on.chain(waiting.iter().map(|number| member(number, false)))
            .collect()
    }

    fn rule(limit: u32, on_conflict: OnConflict) -> ConcurrencySettings {
        ConcurrencySettings {
            limit: Some(limit),
            group: None,
            on_conflict: Some(on_conflict),
        }
    }

    fn numbers(ids: &[RunId]) -> Vec<u128> {
        ids.iter().map(|id| id.0.as_u128()).collect()
    }

    fn pairs(ids: &[(RunId, RunId)]) -> Vec<(u128, u128)> {
        ids.iter()
            .map(|(a, b)| (a.0.as_u128(), b.0.as_u128()))
            .collect()
    }

    #[test]
    fn the_oldest_are_admitted_up_to_the_limit() {
        let ruling = decide(
            Some(&rule(2, OnConflict::Queue)),
            &members(&[1], &[4, 3, 2]),
        );
        assert_eq!(numbers(&ruling.admit), [2]);
        assert!(ruling.supersede.is_empty() && ruling.skip.is_empty());
    }

    #[test]
    fn without_a_rule_everybody_is_admitted() {
        let ruling = decide(None, &members(&[1], &[2, 3]));
        assert_eq!(numbers(&ruling.admit), [2, 3]);
    }

    #[test]
    fn skip_ends_who_finds_the_group_full() {
        let ruling = decide(Some(&rule(1, OnConflict::Skip)), &members(&[], &[1, 2, 3]));
        assert_eq!(numbers(&ruling.admit), [1]);
        assert_eq!(pairs(&ruling.skip), [(2, 1), (3, 1)]);
    }

    #[test]
    fn cancel_queued_keeps_the_running_one_and_the_newest_that_waits() {
        let ruling = decide(
            Some(&rule(1, OnConflict::CancelQueued)),
            &members(&[1], &[2, 3, 4]),
        );
        assert!(ruling.admit.is_empty());
        assert_eq!(pairs(&ruling.supersede), [(3, 4), (2, 4)]);
    }

    #[test]
    fn cancel_running_stops_what_runs_and_waits_until_it_has_stopped() {
        let policy = rule(1, OnConflict::CancelRunning);
        let ruling = decide(Some(&policy), &members(&[1], &[2]));
        assert_eq!(pairs(&ruling.supersede), [(1, 2)]);
        assert!(ruling.admit.is_empty(), "one still runs");
        let mut stopping = members(&[1], &[2]);
        stopping[0].cancelled = true;
        assert_eq!(
            decide(Some(&policy), &stopping),
            Ruling::default(),
            "decided already"
        );
        assert_eq!(
            numbers(&decide(Some(&policy), &members(&[], &[2])).admit),
            [2]
        );
    }

    #[test]
    fn who_was_overtaken_gives_way_although_the_decision_was_carried_out_by_half() {
        for policy in [OnConflict::CancelQueued, OnConflict::CancelRunning] {
            // 3 was admitted, and the server died before it told 2.
            let ruling = decide(Some(&rule(1, policy)), &members(&[3], &[2]));
            assert_eq!(pairs(&ruling.supersede), [(2, 3)], "{policy:?}");
            assert!(ruling.admit.is_empty());
        }
    }

    #[test]
    fn nobody_gives_way_while_there_is_room() {
        let ruling = decide(
            Some(&rule(3, OnConflict::CancelRunning)),
            &members(&[1], &[2, 3]),
        );
        assert_eq!(numbers(&ruling.admit), [2, 3]);
        assert!(ruling.supersede.is_empty());
    }

    #[test]
    fn a_cancelled_run_is_never_admitted() {
        let mut waiting = members(&[], &[1, 2]);
        waiting[0].cancelled = true;
        let ruling = decide(Some(&rule(1, OnConflict::Queue)), &waiting);
        assert_eq!(numbers(&ruling.admit), [2]);
    }

    /// Whatever the picture and policy: never more than the limit, and a second look at the result changes nothing.
    #[test]
    fn any_group_settles() {
        for policy in [
            OnConflict::Queue,
            OnConflict::CancelQueued,
            OnConflict::CancelRunning,
            OnConflict::Skip,
        ] {
            for limit in 1..4 {
                for shape in 0..64u32 {
                    let mut group: Vec<Member> = (0..6u32)
                        .map(|at| Member {
                            run_id: id(u128::from(at + 1)),
                            admitted: at < limit && shape & (1 << at) != 0,
                            cancelled: false,
                        })
                        .collect();
                    let rule = rule(limit, policy);
                    let before = group.iter().filter(|m| m.admitted).count();
                    let ruling = decide(Some(&rule), &group);
                    assert!(before + ruling.admit.len() <= (limit as usize).max(before));
                    for member in &mut group {
                        member.admitted |= ruling.admit.contains(&member.run_id);
                        member.cancelled |= ruling
                            .supersede
                            .iter()
                            .any(|(run, _)| *run == member.run_id);
                    }
                    group.retain(|member| {
                        ruling.skip.iter().all(|(run, _)| *run != member.run_id)
                            && (member.admitted || !member.cancelled)
                    });
                    assert_eq!(
                        decide(Some(&rule), &group),
                        Ruling::default(),
                        "{policy:?} {limit} {shape}"
                    );
                }
            }
        }
    }
}
