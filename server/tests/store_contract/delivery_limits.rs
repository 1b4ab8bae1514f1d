//! Rules of who gets its deliveries when: limits of each receiver, fairness, order; and of sending again.

use crate::deliveries::{Server, end_runs, listed, proven};
use crate::story::*;
use crate::subscriptions::{subscribe, terms};
use pocketci_server::model::delivery::{DeliveryState, Next, Origin, ReplayFilter, ReplayWhich};
use pocketci_server::model::subscription::{DisabledReason, EventName, SubscriptionTerms};
use pocketci_server::model::{DeliveryId, ReplayId, SubscriptionId};
use pocketci_server::store::{DeliveryClaim, Queued, REPLAY_PAGE, TryRecord};
use std::time::Duration;

const ENDS: [EventName; 1] = [EventName::WorkflowCompleted];

pub async fn a_receiver_has_its_concurrency_and_an_unproven_one_a_single_request(store: Shared) {
    let first = proven(&store, terms("first", &ENDS)).await;
    let fresh = subscribe(&store, terms("fresh", &ENDS)).await;
    end_runs(&store, "build", 6).await;
    let (ann, bob) = (Server::new(), Server::new());
    let mut taken = ann.take(&store, 3).await;
    taken.extend(bob.take(&store, 100).await);
    let of = |id| taken.iter().filter(|due| due.subscription.id == id).count();
    assert_eq!(
        (of(first.id), of(fresh.id)),
        (4, 1),
        "of all servers together"
    );
    assert!(bob.take(&store, 100).await.is_empty());
    let looked = bob.look(&store, 100).await;
    assert_eq!(looked.wait, None, "time alone frees nothing");
    let mine = taken
        .iter()
        .find(|due| due.subscription.id == fresh.id)
        .unwrap();
    let sender = Server(ann.0);
    let is_anns = ann.begin(&store, mine.delivery.id).await;
    let (sender, number) = match is_anns {
        Some(number) => (sender, number),
        None => (
            Server(bob.0),
            bob.begin(&store, mine.delivery.id).await.unwrap(),
        ),
    };
    sender.end(&store, mine, number, Next::Done).await;
    assert_eq!(bob.take(&store, 100).await.len(), 4, "proven now");
}

pub async fn dead_receivers_leave_room_for_the_others(store: Shared) {
    for name in ["dead1", "dead2", "dead3"] {
        subscribe(&store, terms(name, &ENDS)).await;
    }
    let alive = proven_only(&store, "alive").await;
    end_runs(&store, "build", 2).await;
    let ann = Server::new();
    let claim = DeliveryClaim {
        max_unproven: 1,
        ..ann.claim(10, LONG)
    };
    let taken = store.claim_deliveries(claim).await.unwrap().due;
    let of_alive = taken
        .iter()
        .filter(|due| due.subscription.id == alive)
        .count();
    assert_eq!((taken.len(), of_alive), (3, 2));
}

/// Proves one while others have nothing to send.
async fn proven_only(store: &Shared, name: &str) -> SubscriptionId {
    proven(store, terms(name, &ENDS)).await.id
}

pub async fn subscriptions_take_turns_however_much_waits_for_one(store: Shared) {
    let own = |name: &str, of| SubscriptionTerms {
        pipeline_id: Some(of),
        ..terms(name, &ENDS)
    };
    let (build, other) = (
        pipeline(&store, "build").await,
        pipeline(&store, "other").await,
    );
    let busy = proven(&store, own("busy", build.id)).await.id;
    let late = proven(&store, own("late", other.id)).await.id;
    end_runs(&store, "build", 20).await;
    end_runs(&store, "other", 2).await;
    let taken = Server::new().take(&store, 3).await;
    let of = |id| taken.iter().filter(|due| due.subscription.id == id).count();
    assert_eq!(of(busy) + of(late), 3);
    assert!(of(late) >= 1, "its first goes before the busy one's second");
}

pub async fn an_ordered_subscription_waits_for_its_first(store: Shared) {
    let ordered = SubscriptionTerms {
        ordered: true,
        ..terms("ordered", &ENDS)
    };
    proven(&store, ordered).await;
    end_runs(&store, "build", 3).await;
    let ann = Server::new();
    let first = ann.take(&store, 10).await;
    assert_eq!(first.len(), 1, "one in flight");
    let number = ann.begin(&store, first[0].delivery.id).await.unwrap();
    ann.end(&store, &first[0], number, Next::Again(LONG)).await;
    let looked = ann.look(&store, 10).await;
    assert!(looked.due.is_empty(), "nothing overtakes it");
    let wait = looked.wait.unwrap();
    assert!(wait > LONG / 2 && wait <= LONG, "{wait:?}");
    let enabled = store
        .enable_subscription(first[0].subscription.id)
        .await
        .unwrap();
    assert!(enabled.is_some(), "what waits is due at once");
    let mut order = Vec::new();
    for next in [Next::Fail("given up".into()), Next::Done, Next::Done] {
        let due = ann.take(&store, 10).await.remove(0);
        let number = ann.begin(&store, due.delivery.id).await.unwrap();
        order.push(due.event.seq);
        ann.end(&store, &due, number, next).await;
    }
    assert_eq!(order[0], first[0].event.seq);
    assert!(order.is_sorted(), "{order:?}");
}

pub async fn a_rate_holds_over_all_servers(store: Shared) {
    let slow = SubscriptionTerms {
        rate_per_second: Some(2.0),
        concurrency: 64,
        ..terms("slow", &ENDS)
    };
    proven(&store, slow).await;
    end_runs(&store, "build", 6).await;
    let mut taken = 0;
    let mut wait = None;
    for _ in 0..5 {
        let looked = Server::new().look(&store, 100).await;
        taken += looked.due.len();
        wait = looked.wait;
    }
    assert!((1..=2).contains(&taken), "{taken}");
    let wait = wait.unwrap();
    assert!(wait <= Duration::from_millis(500), "{wait:?}");
    tokio::time::sleep(wait + Duration::from_millis(5)).await;
    let more = Server::new().take(&store, 100).await.len();
    assert!((1..=2).contains(&more), "{more}");
}

pub async fn a_paused_or_disabled_subscription_is_sent_nothing(store: Shared) {
    let one = proven(&store, terms("one", &ENDS)).await;
    end_runs(&store, "build", 3).await;
    let ann = Server::new();
    let due = ann.take(&store, 1).await.remove(0);
    let number = ann.begin(&store, due.delivery.id).await.unwrap();
    let record = TryRecord {
        delivery_id: due.delivery.id,
        subscription_id: one.id,
        version: due.subscription.version,
        sender: ann.0,
        ended: Some((
            number,
            crate::deliveries::end(pocketci_server::model::delivery::TryState::Failed),
        )),
        next: Next::Again(Duration::ZERO),
        pause: Some(LONG),
    };
    store.record_try(record).await.unwrap();
    let looked = ann.look(&store, 10).await;
    assert!(looked.due.is_empty() && looked.wait.unwrap() > LONG / 2);
    let health = store.subscription(one.id).await.unwrap().unwrap().health;
    assert!(health.paused_until.is_some() && health.failing_since.is_some());
    store
        .disable_subscription(one.id, None, DisabledReason::Operator)
        .await
        .unwrap();
    let looked = ann.look(&store, 10).await;
    assert!(looked.due.is_empty() && looked.wait.is_none());
    end_runs(&store, "build", 1).await;
    assert_eq!(
        store.waiting_deliveries().await.unwrap(),
        3,
        "nothing new for it"
    );
    assert_eq!(
        store.ping_subscription(one.id, "me", None).await.unwrap(),
        Queued::Disabled
    );
    store.enable_subscription(one.id).await.unwrap();
    assert_eq!(ann.take(&store, 10).await.len(), 3 + 1 - 1);
}

pub async fn a_receiver_that_is_dead_for_long_is_disabled(store: Shared) {
    let watching = subscribe(
        &store,
        terms("watching", &[EventName::SubscriptionDisabled]),
    )
    .await;
    let one = subscribe(&store, terms("one", &ENDS)).await;
    end_runs(&store, "build", 1).await;
    let ann = Server::new();
    for number in 1..=3 {
        let none = store.disable_failing(Duration::ZERO, 3).await.unwrap();
        assert!(none.is_empty(), "try {number}");
        let due = ann.take(&store, 10).await.remove(0);
        let begun = ann.begin(&store, due.delivery.id).await.unwrap();
        ann.end(&store, &due, begun, Next::Again(Duration::ZERO))
            .await;
    }
    assert!(
        store.disable_failing(LONG, 3).await.unwrap().is_empty(),
        "not long enough"
    );
    assert_eq!(
        store.disable_failing(Duration::ZERO, 3).await.unwrap(),
        ["one"]
    );
    let disabled = store.subscription(one.id).await.unwrap().unwrap();
    assert_eq!(disabled.disabled.unwrap().reason, DisabledReason::Failing);
    let due = ann.take(&store, 10).await.remove(0);
    assert_eq!(due.subscription.id, watching.id);
    assert_eq!(due.event.data["failures"], 3);
}

pub async fn one_is_sent_again_whatever_became_of_it(store: Shared) {
    let one = proven(&store, terms("one", &ENDS)).await;
    end_runs(&store, "build", 1).await;
    let ann = Server::new();
    assert_eq!(ann.deliver_all(&store).await, 1);
    let first = listed(&store).await.remove(0);
    let Queued::As(again) = store.resend(first.id).await.unwrap() else {
        panic!("not sent again");
    };
    let due = ann.take(&store, 10).await.remove(0);
    assert_eq!(
        (due.delivery.id, due.delivery.resend_of),
        (again, Some(first.id))
    );
    assert_eq!(
        due.delivery.webhook_id, first.webhook_id,
        "the receiver knows it"
    );
    assert_eq!(
        store.resend(DeliveryId::new()).await.unwrap(),
        Queued::Unknown
    );
    assert!(store.delete_subscription(one.id).await.unwrap());
    store
        .forget_deliveries(Duration::from_secs(3600), 100)
        .await
        .unwrap();
    assert!(listed(&store).await.is_empty());
    assert!(store.delivery(again).await.unwrap().is_none());
}

pub async fn past_events_are_delivered_again_page_by_page_and_counted_before(store: Shared) {
    let keeper = proven(&store, terms("keeper", &ENDS)).await;
    let since = now();
    let many = usize::try_from(REPLAY_PAGE).unwrap() + 7;
    end_runs(&store, "build", many).await;
    let one = subscribe(&store, terms("one", &ENDS)).await;
    let filter = |which, events: &[EventName]| ReplayFilter {
        subscription_id: one.id,
        which,
        since,
        until: now() + LONG,
        events: events.to_vec(),
    };
    let missing = filter(ReplayWhich::Missing, &[]);
    let expected = i64::try_from(many).unwrap();
    assert_eq!(store.count_replay(&missing).await.unwrap(), expected);
    let none = filter(ReplayWhich::All, &[EventName::JobCompleted]);
    assert_eq!(store.count_replay(&none).await.unwrap(), 0);
    let id = ReplayId::new();
    let replay = store
        .begin_replay(id, missing.clone())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (replay.expected, replay.created, replay.done),
        (expected, 0, false)
    );
    assert!(store.advance_replays().await.unwrap());
    let half = store.replay(id).await.unwrap().unwrap();
    assert_eq!((half.created, half.done), (REPLAY_PAGE, false));
    // Interrupted here: whoever goes on makes the rest, and what happens meanwhile is not its own.
    end_runs(&store, "build", 1).await;
    while store.advance_replays().await.unwrap() {}
    let whole = store
        .begin_replay(id, missing.clone())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((whole.created, whole.done), (expected, true));
    assert_eq!(store.count_replay(&missing).await.unwrap(), 0);
    assert_eq!(store.replays(one.id, 10).await.unwrap(), [whole]);
    let taken = Server::new().take(&store, 10_000).await;
    let mine = taken
        .iter()
        .find(|due| due.subscription.id == one.id)
        .unwrap();
    assert_eq!(
        (mine.delivery.origin, mine.delivery.replay_id),
        (Origin::Replay, Some(id))
    );
    let other = ReplayFilter {
        subscription_id: SubscriptionId::new(),
        ..missing
    };
    assert!(
        store
            .begin_replay(ReplayId::new(), other)
            .await
            .unwrap()
            .is_none()
    );
    let failed = ReplayFilter {
        subscription_id: keeper.id,
        ..filter(ReplayWhich::Failed, &[])
    };
    assert_eq!(store.count_replay(&failed).await.unwrap(), 0, "those wait");
}

pub async fn what_failed_is_replayed_once_it_is_not_on_its_way(store: Shared) {
    let one = proven(&store, terms("one", &ENDS)).await;
    end_runs(&store, "build", 2).await;
    let ann = Server::new();
    let due = ann.take(&store, 10).await;
    for (due, next) in due.iter().zip([Next::Done, Next::Fail("no".into())]) {
        let number = ann.begin(&store, due.delivery.id).await.unwrap();
        ann.end(&store, due, number, next).await;
    }
    let filter = ReplayFilter {
        subscription_id: one.id,
        which: ReplayWhich::Failed,
        since: now() - LONG,
        until: now() + LONG,
        events: Vec::new(),
    };
    assert_eq!(store.count_replay(&filter).await.unwrap(), 1);
    store
        .begin_replay(ReplayId::new(), filter.clone())
        .await
        .unwrap();
    while store.advance_replays().await.unwrap() {}
    assert_eq!(store.count_replay(&filter).await.unwrap(), 0);
    let again = ann.take(&store, 10).await.remove(0);
    assert_eq!(again.event.id, due[1].event.id);
}

pub async fn old_deliveries_are_forgotten_but_not_those_in_hand(store: Shared) {
    proven(&store, terms("one", &ENDS)).await;
    end_runs(&store, "build", 2).await;
    let ann = Server::new();
    let due = ann.take(&store, 1).await.remove(0);
    assert_eq!(store.forget_deliveries(LONG, 100).await.unwrap(), 0);
    tokio::time::sleep(Duration::from_millis(2)).await;
    while store.forget_deliveries(Duration::ZERO, 1).await.unwrap() > 0 {}
    let left = listed(&store).await;
    assert_eq!(left.len(), 1);
    assert_eq!(
        (left[0].id, left[0].state),
        (due.delivery.id, DeliveryState::Sending)
    );
    assert!(store.outgoing_event(due.event.id).await.unwrap().is_some());
    assert_eq!(store.waiting_deliveries().await.unwrap(), 1);
}

pub async fn what_a_sole_disabled_subscriber_missed_can_be_replayed(store: Shared) {
    let one = subscribe(&store, terms("one", &ENDS)).await;
    let reason = DisabledReason::Operator;
    store
        .disable_subscription(one.id, None, reason)
        .await
        .unwrap();
    end_runs(&store, "build", 2).await;
    assert_eq!(listed(&store).await.len(), 0, "nothing waits for it");
    store.enable_subscription(one.id).await.unwrap();
    let missing = |which| ReplayFilter {
        subscription_id: one.id,
        which,
        since: time::OffsetDateTime::UNIX_EPOCH,
        until: time::OffsetDateTime::now_utc() + LONG,
        events: Vec::new(),
    };
    let filter = missing(ReplayWhich::Missing);
    assert_eq!(store.count_replay(&filter).await.unwrap(), 2);
}

pub async fn what_a_receiver_said_before_a_change_is_not_held_against_it_after(store: Shared) {
    let one = proven(&store, terms("one", &ENDS)).await;
    end_runs(&store, "build", 1).await;
    let ann = Server::new();
    let due = ann.take(&store, 1).await.remove(0);
    let number = ann.begin(&store, due.delivery.id).await.unwrap();
    let elsewhere = SubscriptionTerms {
        url: "https://elsewhere.example/".into(),
        ..due.subscription.terms.clone()
    };
    let seen = due.subscription.version;
    store
        .change_subscription(one.id, seen, elsewhere)
        .await
        .unwrap();
    ann.end(&store, &due, number, Next::Again(LONG)).await;
    let reason = DisabledReason::Gone;
    store
        .disable_subscription(one.id, Some(seen), reason)
        .await
        .unwrap();
    let after = store.subscription(one.id).await.unwrap().unwrap();
    assert!(after.is_enabled() && after.health.failures == 0);
    let now = Some(after.version);
    store
        .disable_subscription(one.id, now, reason)
        .await
        .unwrap();
    let after = store.subscription(one.id).await.unwrap().unwrap();
    assert!(!after.is_enabled());
}

pub async fn what_a_deleted_subscription_leaves_is_forgotten_in_pages(store: Shared) {
    let one = proven(&store, terms("one", &ENDS)).await;
    let other = proven(&store, terms("other", &ENDS)).await;
    end_runs(&store, "build", 3).await;
    assert!(store.delete_subscription(one.id).await.unwrap());
    let taken = Server::new().take(&store, 10).await;
    assert!(taken.iter().all(|due| due.subscription.id == other.id));
    let left = |all: Vec<pocketci_server::model::delivery::Delivery>| {
        let mine = |delivery: &&_| -> bool {
            let delivery: &pocketci_server::model::delivery::Delivery = delivery;
            delivery.subscription_id == Some(one.id)
        };
        all.iter().filter(mine).count()
    };
    let before = left(listed(&store).await);
    let kept = listed(&store).await.len() - before;
    assert_eq!(store.forget_deliveries(LONG, 2).await.unwrap(), 2);
    assert_eq!(left(listed(&store).await), before - 2);
    while store.forget_deliveries(LONG, 2).await.unwrap() > 0 {}
    assert_eq!(listed(&store).await.len(), kept, "nobody else's");
    assert_eq!(left(listed(&store).await), 0);
}
