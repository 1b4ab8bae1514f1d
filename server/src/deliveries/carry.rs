//! One delivery, from the claim to the record.

use super::request::{Opened, body_of, prepare};
use super::verdict::{Case, end, verdict};
use super::{Deliveries, payload};
use crate::model::delivery::{DueDelivery, Next, Origin, TryEnd};
use crate::model::subscription::EventName;
use crate::store::{NewTry, Recorded, Result, StoreError, TryRecord};
use bytes::Bytes;
use pocketci_outside::exchange::exchange;
use pocketci_pipeline::expression::WebhookVars;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::OnceCell;

/// Beyond the exchange itself, for what comes before the record and the record.
pub(super) const LEASE_BEYOND: Duration = Duration::from_secs(20);
/// Wait where something of ours is in the way, not the receiver's fault.
const OUR_FAULT_WAIT: Duration = Duration::from_secs(60);
/// Waits between tries to record an end; then the lease runs out, and it is sent again.
const RECORD_WAITS: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// The payload of one event, built once for all deliveries of a claim; `None` inside: what it is about is gone.
pub(super) type Built = Arc<OnceCell<Option<String>>>;

/// What is to be done with a delivery before it is sent.
enum Ready {
    Send(Bytes),
    Settle(Next),
}

impl Deliveries {
    /// Carries one out. What fails on the way to the store is left to the lease.
    pub(super) async fn carry(&self, due: DueDelivery, built: Built) {
        let id = due.delivery.id;
        if let Err(error) = self.try_once(&due, &built).await {
            tracing::warn!(
                delivery = %id,
                error = &error as &dyn std::error::Error,
                "a delivery cannot be carried out; it is tried again when its lease has ended"
            );
        }
    }

    async fn try_once(&self, due: &DueDelivery, built: &Built) -> Result<()> {
        let now = OffsetDateTime::now_utc();
        let opened = match Opened::of(&due.subscription, &self.inner.vault, now) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::error!(subscription = %due.subscription.id, %error, "secrets of a subscription cannot be opened");
                return self.settle(due, Next::Again(OUR_FAULT_WAIT)).await;
            }
        };
        let body = match self.ready(due, built).await? {
            Ready::Send(body) => body,
            Ready::Settle(next) => return self.settle(due, next).await,
        };
        let within = self.inner.settings.within;
        let prepared = match prepare(due, &opened, body, now, within) {
            Ok(prepared) => prepared,
            Err(told) => return self.settle(due, Next::Drop(told)).await,
        };
        let begun = self.inner.store.begin_try(NewTry {
            delivery_id: due.delivery.id,
            sender: self.inner.sender,
            tries: due.delivery.tries,
            sender_name: self.inner.sender_name.clone(),
            request: prepared.kept,
            lease: within + LEASE_BEYOND,
        });
        let Some(number) = begun.await? else {
            return Ok(());
        };
        let exchanged = exchange(&self.inner.clients, &prepared.request).await;
        let case = Case {
            number,
            failures: due.subscription.health.failures,
            schedule: self.schedule(&due.subscription),
            now: OffsetDateTime::now_utc(),
            chance: rand::random(),
        };
        let verdict = verdict(&exchanged, &case);
        let ended = end(&exchanged, opened.hidden().collect::<Vec<_>>().into_iter());
        let record = self.record_of(due, Some((number, ended)), verdict.next, verdict.pause);
        self.record(record).await?;
        if let Some(reason) = verdict.disable {
            tracing::warn!(subscription = %due.subscription.id, reason = reason.as_str(), "a receiver wants no more; its subscription is disabled");
            let store = &self.inner.store;
            store
                .disable_subscription(due.subscription.id, Some(due.subscription.version), reason)
                .await?;
        }
        Ok(())
    }

    /// The body, if it is to be sent.
    async fn ready(&self, due: &DueDelivery, built: &Built) -> Result<Ready> {
        let entities = match &due.event.payload {
            Some(kept) => kept.clone(),
            None => match built.get_or_try_init(|| self.build(due)).await? {
                Some(built) => built.clone(),
                None => {
                    let gone = "what it is about was deleted before it could be told";
                    return Ok(Ready::Settle(Next::Drop(gone.to_owned())));
                }
            },
        };
        let body = body_of(due, &entities);
        // Whoever asks for one gets it.
        let is_asked_for = matches!(due.delivery.origin, Origin::Ping | Origin::Resend);
        if let (Some(filter), false) = (&due.subscription.terms.filter, is_asked_for) {
            match self.matches(filter, due.event.name, &body).await {
                Ok(true) => {}
                Ok(false) => return Ok(Ready::Settle(Next::Filter)),
                Err(told) => return Ok(Ready::Settle(Next::Drop(told))),
            }
        }
        Ok(Ready::Send(body))
    }

    async fn build(&self, due: &DueDelivery) -> Result<Option<String>> {
        let store = &self.inner.store;
        let external_url = self.inner.settings.external_url.as_deref();
        let Some(built) = payload::build(&**store, &due.event, external_url).await? else {
            return Ok(None);
        };
        // Another server may have been faster; what is kept counts.
        store.keep_payload(due.event.id, built).await
    }

    /// Whether a filter holds; why it cannot be told, for people.
    async fn matches(
        &self,
        filter: &str,
        event: EventName,
        body: &Bytes,
    ) -> std::result::Result<bool, String> {
        let told = |error: &dyn std::fmt::Display| format!("the filter cannot be used: {error}");
        let expression = self.inner.filters.get(filter);
        let expression = expression.map_err(|error| told(&error))?;
        let vars = WebhookVars {
            provider: "pocketci".to_owned(),
            event_type: event.as_str().to_owned(),
            method: "POST".to_owned(),
            headers: BTreeMap::new(),
            query: BTreeMap::new(),
            body: String::from_utf8_lossy(body).into_owned(),
        };
        // An expression may take its time; not on a thread that serves.
        let evaluated = tokio::task::spawn_blocking(move || expression.matches(&vars)).await;
        match evaluated {
            Ok(held) => held.map_err(|error| told(&error)),
            Err(panic) => Err(told(&panic)),
        }
    }

    fn record_of(
        &self,
        due: &DueDelivery,
        ended: Option<(i32, TryEnd)>,
        next: Next,
        pause: Option<Duration>,
    ) -> TryRecord {
        TryRecord {
            delivery_id: due.delivery.id,
            subscription_id: due.subscription.id,
            version: due.subscription.version,
            sender: self.inner.sender,
            ended,
            next,
            pause,
        }
    }

    async fn settle(&self, due: &DueDelivery, next: Next) -> Result<()> {
        self.record(self.record_of(due, None, next, None)).await
    }

    /// What was sent and is not recorded is sent again: worth some patience.
    async fn record(&self, record: TryRecord) -> Result<()> {
        let mut waits = RECORD_WAITS.into_iter();
        loop {
            match (
                self.inner.store.record_try(record.clone()).await,
                waits.next(),
            ) {
                (Ok(Recorded::Done | Recorded::Late | Recorded::Stale), _) => return Ok(()),
                (Err(StoreError::Unavailable(_)), Some(wait)) => tokio::time::sleep(wait).await,
                (Err(error), _) => return Err(error),
            }
        }
    }
}
