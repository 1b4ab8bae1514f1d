//! Rules of subscriptions: one name each, changed by version, disabled with a reason that the others hear of.

use crate::story::*;
use pocketci_server::model::delivery::{DeliveryFilter, DeliveryState, OutgoingEvent};
use pocketci_server::model::subscription::{
    DisabledReason, EventName, SealedHeader, SealedKey, Subscription, SubscriptionTerms,
};
use pocketci_server::model::{PipelineId, SubscriptionId};
use pocketci_server::store::{SubscriptionFilter, SubscriptionPut};
use std::time::Duration;

/// Terms that say as little as possible.
pub fn terms(name: &str, events: &[EventName]) -> SubscriptionTerms {
    SubscriptionTerms {
        name: name.into(),
        url: format!("https://{name}.test/hook"),
        events: events.to_vec(),
        pipeline_id: None,
        secrets: Vec::new(),
        verify_tls: true,
        ca_pem: None,
        headers: Vec::new(),
        filter: None,
        concurrency: 4,
        rate_per_second: None,
        schedule: None,
        ordered: false,
    }
}

pub async fn subscribe(store: &Shared, terms: SubscriptionTerms) -> Subscription {
    let put = store
        .create_subscription(SubscriptionId::new(), terms)
        .await;
    stored(put.unwrap())
}

fn stored(put: SubscriptionPut) -> Subscription {
    match put {
        SubscriptionPut::Stored(stored) => *stored,
        SubscriptionPut::NameTaken
        | SubscriptionPut::NoPipeline
        | SubscriptionPut::Stale
        | SubscriptionPut::Full => panic!("not stored"),
    }
}

/// Events that were stored for somebody, oldest first.
pub async fn told(store: &Shared) -> Vec<OutgoingEvent> {
    let filter = DeliveryFilter {
        limit: 200,
        ..DeliveryFilter::default()
    };
    let mut events = Vec::new();
    for delivery in store.deliveries(filter).await.unwrap() {
        if let Some(id) = delivery.event_id {
            events.push(store.outgoing_event(id).await.unwrap().unwrap());
        }
    }
    events.sort_by_key(|event| event.seq);
    events.dedup_by_key(|event| event.seq);
    events
}

const ENDS: [EventName; 1] = [EventName::WorkflowCompleted];

pub async fn a_subscription_is_kept_as_it_was_given(store: Shared) {
    let build = pipeline(&store, "build").await;
    let all = SubscriptionTerms {
        pipeline_id: Some(build.id),
        secrets: vec![SealedKey {
            id: "0123456789ab".into(),
            sealed: vec![0, 1, 255],
            not_after: Some(now().replace_nanosecond(0).unwrap()),
        }],
        ca_pem: Some("PEM".into()),
        headers: vec![SealedHeader {
            name: "X-Token".into(),
            sealed: vec![9],
        }],
        filter: Some("payload.type == 'x'".into()),
        concurrency: 7,
        rate_per_second: Some(0.5),
        schedule: Some(vec![Duration::from_millis(1_500), Duration::ZERO]),
        ordered: true,
        ..terms(
            "all",
            &[EventName::WorkflowCompleted, EventName::GateWaiting],
        )
    };
    let id = SubscriptionId::new();
    let first = stored(store.create_subscription(id, all.clone()).await.unwrap());
    assert!(first.terms == all && first.version == 1 && first.is_enabled());
    let again = store.create_subscription(id, all.clone()).await.unwrap();
    assert!(stored(again) == first, "repeating stores nothing twice");
    let found = store.subscription(id).await.unwrap().unwrap();
    assert!(found == first);
    let found = store.subscription_by_name("all").await.unwrap();
    assert!(found.unwrap() == first);
}

pub async fn a_subscription_is_changed_by_who_saw_its_version(store: Shared) {
    let first = subscribe(&store, terms("one", &ENDS)).await;
    let taken = store
        .create_subscription(SubscriptionId::new(), terms("one", &ENDS))
        .await;
    assert!(taken.unwrap() == SubscriptionPut::NameTaken);
    let same = store
        .change_subscription(first.id, 1, first.terms.clone())
        .await;
    assert!(stored(same.unwrap()) == first, "no difference, no version");
    let other = terms("two", &ENDS);
    let changed = store.change_subscription(first.id, 1, other.clone()).await;
    let changed = stored(changed.unwrap());
    assert!(changed.version == 2 && changed.terms == other);
    let late = store
        .change_subscription(first.id, 1, terms("three", &ENDS))
        .await;
    assert!(late.unwrap() == SubscriptionPut::Stale);
    subscribe(&store, terms("four", &ENDS)).await;
    let taken = store
        .change_subscription(first.id, 2, terms("four", &ENDS))
        .await;
    assert!(taken.unwrap() == SubscriptionPut::NameTaken);
    let nowhere = SubscriptionTerms {
        pipeline_id: Some(PipelineId::new()),
        ..terms("five", &ENDS)
    };
    let refused = store
        .create_subscription(SubscriptionId::new(), nowhere)
        .await;
    assert!(refused.unwrap() == SubscriptionPut::NoPipeline);
    let sealed = SubscriptionTerms {
        headers: vec![SealedHeader {
            name: "a".into(),
            sealed: vec![1],
        }],
        ..other
    };
    assert!(
        !store
            .reseal_subscription(first.id, 1, sealed.clone())
            .await
            .unwrap()
    );
    assert!(
        store
            .reseal_subscription(first.id, 2, sealed.clone())
            .await
            .unwrap()
    );
    let found = store.subscription(first.id).await.unwrap().unwrap();
    assert!(found.version == 2 && found.terms == sealed);
}

pub async fn subscriptions_are_listed_by_name_and_end_with_their_pipeline(store: Shared) {
    let (build, other) = (
        pipeline(&store, "build").await,
        pipeline(&store, "other").await,
    );
    for (name, of) in [("c", None), ("a", Some(build.id)), ("b", Some(other.id))] {
        let terms = SubscriptionTerms {
            pipeline_id: of,
            ..terms(name, &ENDS)
        };
        subscribe(&store, terms).await;
    }
    let names = |filter: SubscriptionFilter| {
        let store = store.clone();
        async move {
            let filter = SubscriptionFilter { limit: 2, ..filter };
            let found = store.subscriptions(filter).await.unwrap();
            found
                .into_iter()
                .map(|one| one.terms.name)
                .collect::<Vec<_>>()
        }
    };
    let hears = |id| SubscriptionFilter {
        hears: Some(id),
        ..SubscriptionFilter::default()
    };
    assert_eq!(names(SubscriptionFilter::default()).await, ["a", "b"]);
    let after = SubscriptionFilter {
        after: Some("b".into()),
        ..SubscriptionFilter::default()
    };
    assert_eq!(names(after).await, ["c"]);
    assert_eq!(names(hears(build.id)).await, ["a", "c"]);
    let of = SubscriptionFilter {
        of: Some(other.id),
        ..SubscriptionFilter::default()
    };
    assert_eq!(names(of).await, ["b"]);
    store.delete_pipeline(build.id).await.unwrap();
    assert_eq!(names(hears(build.id)).await, ["c"]);
    let c = store.subscription_by_name("c").await.unwrap().unwrap();
    assert!(store.delete_subscription(c.id).await.unwrap());
    assert!(!store.delete_subscription(c.id).await.unwrap());
}

pub async fn the_others_hear_that_one_was_disabled_and_why(store: Shared) {
    let watching = terms("watching", &[EventName::SubscriptionDisabled]);
    let watching = subscribe(&store, watching).await;
    let terms = SubscriptionTerms {
        url: "https://x.test/a?token=s3cr3t".into(),
        ..terms("gone", &[EventName::SubscriptionDisabled])
    };
    let gone = subscribe(&store, terms).await;
    let operator = subscribe(&store, super::subscriptions::terms("quiet", &ENDS)).await;
    let quiet = store
        .disable_subscription(operator.id, None, DisabledReason::Operator)
        .await;
    assert_eq!(
        quiet.unwrap().unwrap().disabled.unwrap().reason,
        DisabledReason::Operator
    );
    assert!(told(&store).await.is_empty(), "whoever did it knows");
    for _ in 0..2 {
        let disabled = store
            .disable_subscription(gone.id, None, DisabledReason::Gone)
            .await;
        let disabled = disabled.unwrap().unwrap();
        assert_eq!((disabled.version, disabled.state()), (2, "disabled"));
    }
    let events = told(&store).await;
    assert_eq!(events.len(), 1, "once, and not to itself");
    assert_eq!(events[0].name, EventName::SubscriptionDisabled);
    assert_eq!(events[0].data["reason"], "gone");
    // The path may be a secret.
    assert_eq!(events[0].data["url"], "https://x.test");
    let deliveries = store
        .deliveries(DeliveryFilter {
            limit: 10,
            ..DeliveryFilter::default()
        })
        .await
        .unwrap();
    assert_eq!(deliveries.len(), 1);
    assert_eq!(deliveries[0].subscription_id, Some(watching.id));
    assert_eq!(deliveries[0].state, DeliveryState::Pending);
    let enabled = store.enable_subscription(gone.id).await.unwrap().unwrap();
    assert!(enabled.is_enabled() && enabled.version == 3);
    assert!(
        store
            .enable_subscription(SubscriptionId::new())
            .await
            .unwrap()
            .is_none()
    );
}
