//! Deliveries: what subscribers are told is built, signed, sent and recorded, by any number of servers.
//!
//! Reading order: `sender` (the loop that takes what is due), `lanes` (how much may be under way),
//! `carry` (one delivery from claim to record), `request` (the bytes and headers), `verdict` (what follows from an answer),
//! `schedule` (when again), `duties` (what nobody asked for). What happened is stored by the transitions themselves; nothing here decides whether something is told, only how.

mod carry;
mod duties;
mod lanes;
pub mod payload;
mod request;
mod schedule;
mod sender;
pub mod terms;
mod verdict;

pub use request::resealed;
pub use schedule::default_schedule;

use crate::model::subscription::Subscription;
use crate::model::vault::Vault;
use crate::store::Store;
use crate::store::wake::Listener;
use pocketci_outside::client::Clients;
use pocketci_outside::exchange;
use pocketci_outside::guard::{Allowed, Guard, Words};
use pocketci_pipeline::expression::ExpressionCache;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Deliveries at once in one server unless said otherwise, those not counted that wait for an answer for a while: as many
/// again.
pub const DEFAULT_CONCURRENCY: usize = 256;
/// What we call ourselves: receivers that know CircleCI look at the first word.
const USER_AGENT: &str = concat!(
    "CircleCI-Webhook/1.0 (PocketCI/",
    env!("CARGO_PKG_VERSION"),
    ")"
);
/// How the guard's refusals are told.
const WORDS: Words = Words {
    what: "delivery",
    way_out: "the server's operator may allow it with --delivery-allow",
};

/// Times and limits of deliveries.
#[derive(Debug, Clone)]
pub struct DeliverySettings {
    /// Whether this server sends; others of the same store may.
    pub enabled: bool,
    /// Private addresses that may be reached.
    pub allow: Vec<Allowed>,
    /// Deliveries at once, at least 1; and as many that have waited for an answer for half a second.
    pub concurrency: usize,
    /// Waits before the second, third… try, where a subscription says nothing.
    pub schedule: Vec<Duration>,
    /// How long one exchange may take.
    pub within: Duration,
    /// Where users reach the server, if it is known: links in what is told.
    pub external_url: Option<String>,
}

impl Default for DeliverySettings {
    fn default() -> Self {
        Self {
            enabled: true,
            allow: Vec::new(),
            concurrency: DEFAULT_CONCURRENCY,
            schedule: default_schedule(),
            within: exchange::WITHIN,
            external_url: None,
        }
    }
}

impl DeliverySettings {
    /// Where deliveries may go.
    pub fn guard(&self) -> Guard {
        Guard::new(self.allow.clone(), WORDS)
    }
}

/// One server's sender; clones are cheap.
#[derive(Clone)]
pub struct Deliveries {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    vault: Vault,
    settings: DeliverySettings,
    clients: Clients,
    filters: ExpressionCache,
    /// Names this process to the store.
    sender: Uuid,
    /// The same for people.
    sender_name: String,
}

impl Deliveries {
    /// Nothing is sent before [`Self::serve`].
    pub fn new(store: Arc<dyn Store>, settings: DeliverySettings, vault: Vault) -> Self {
        let sender = Uuid::new_v4();
        let guard = settings.guard();
        let short = &sender.simple().to_string()[..8];
        Self {
            inner: Arc::new(Inner {
                store,
                vault,
                settings,
                clients: Clients::new(guard, USER_AGENT),
                filters: ExpressionCache::default(),
                sender,
                sender_name: format!("server {short}, process {}", std::process::id()),
            }),
        }
    }

    /// Hints of the store.
    pub fn wakes(&self) -> Listener {
        self.inner.store.wakes().listen()
    }

    /// The waits of a subscription.
    fn schedule<'a>(&'a self, subscription: &'a Subscription) -> &'a [Duration] {
        let own = subscription.terms.schedule.as_deref();
        own.unwrap_or(&self.inner.settings.schedule)
    }
}
