//! The agent sessions connected to this server and their free slots: who can take a job right now.
//!
//! Only hints live here; the store decides who holds a job. A slot is reserved before the transaction that hands the
//! job out and given back by a guard's Drop if that comes to nothing.

use crate::model::pipeline::Labels;
use crate::model::{AgentId, JobId, SessionId, TokenId};
use crate::store::{Claimed, Demand, HandOff};
use pocketci_proto::api::Driver;
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A message for an agent.
pub type Told = pocketci_proto::agent::server_message::Kind;

/// Messages that wait for a session's task.
const MAX_TOLD: usize = 1024;

/// One connected session, as others see it.
pub struct SessionEntry {
    /// The connection.
    pub session_id: SessionId,
    /// The agent.
    pub agent_id: AgentId,
    /// Its name.
    pub agent_name: String,
    /// The credential it came with.
    pub token_id: TokenId,
    /// Its labels.
    pub labels: Labels,
    /// Drivers it offers.
    pub drivers: Vec<Driver>,
    slots: usize,
    use_of_slots: Mutex<SlotUse>,
    /// Jobs may be waiting in the store: the session looks when it has a free slot.
    look: AtomicBool,
    /// Something may be to be cancelled.
    cancels: AtomicBool,
    /// What the agent is to be told besides its jobs.
    told: Mutex<Vec<Told>>,
    /// Wakes the session's task.
    poke: Notify,
    /// Bounded by `slots`: only a reserved slot may be delivered to.
    deliveries: mpsc::UnboundedSender<Claimed>,
}

#[derive(Default)]
struct SlotUse {
    reserved: usize,
    held: HashSet<JobId>,
    draining: bool,
    /// It has just refused a job: it knows better how many slots are free.
    refusing: bool,
}

impl SlotUse {
    fn free(&self, slots: usize) -> usize {
        match self.draining || self.refusing {
            true => 0,
            false => slots.saturating_sub(self.reserved + self.held.len()),
        }
    }
}

impl SessionEntry {
    /// A session with this many slots; deliveries arrive at the receiver.
    pub fn new(
        registration: &crate::model::agent::Registration,
        agent_id: AgentId,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Claimed>) {
        let (deliveries, receiver) = mpsc::unbounded_channel();
        let entry = Self {
            session_id: registration.session_id,
            agent_id,
            agent_name: registration.name.clone(),
            token_id: registration.token_id,
            labels: registration.labels.clone(),
            drivers: registration.drivers.clone(),
            slots: usize::try_from(registration.slots).unwrap_or(1),
            use_of_slots: Mutex::default(),
            look: AtomicBool::new(true),
            cancels: AtomicBool::new(true),
            told: Mutex::default(),
            poke: Notify::new(),
            deliveries,
        };
        (Arc::new(entry), receiver)
    }

    fn suits(&self, labels: &Labels, driver: Option<Driver>) -> bool {
        driver.is_none_or(|driver| self.drivers.contains(&driver))
            && labels
                .iter()
                .all(|(key, value)| self.labels.get(key) == Some(value))
    }

    /// Waits until there is something to look for; a poke that comes meanwhile is not lost.
    pub async fn poked(&self) {
        self.poke.notified().await;
    }

    /// Whether to look for work once there is a free slot; the next hint sets it again.
    pub fn should_look(&self) -> bool {
        self.look.load(Ordering::SeqCst)
    }

    /// Says whether there may be more work than was taken.
    pub fn set_look(&self, look: bool) {
        self.look.store(look, Ordering::SeqCst);
    }

    /// Something of this session's is to be cancelled.
    pub fn tell_of_cancel(&self) {
        self.cancels.store(true, Ordering::SeqCst);
        self.poke.notify_one();
    }

    /// Has the agent told something; `false` if too much waits already.
    pub fn tell(&self, kind: Told) -> bool {
        let mut told = lock(&self.told);
        if told.len() >= MAX_TOLD {
            return false;
        }
        told.push(kind);
        drop(told);
        self.poke.notify_one();
        true
    }

    /// What the agent is to be told, in order.
    pub fn take_told(&self) -> Vec<Told> {
        std::mem::take(&mut *lock(&self.told))
    }

    /// Whether something may be to be cancelled; asked once for each hint.
    pub fn take_cancels(&self) -> bool {
        self.cancels.swap(false, Ordering::SeqCst)
    }

    /// Free slots now.
    pub fn free(&self) -> usize {
        lock(&self.use_of_slots).free(self.slots)
    }

    /// Reserves all free slots for a claim; `None` if there is none.
    pub fn reserve_free(self: &Arc<Self>) -> Option<Reservation> {
        let mut used = lock(&self.use_of_slots);
        let free = used.free(self.slots);
        if free == 0 {
            return None;
        }
        used.reserved += free;
        Some(Reservation {
            entry: self.clone(),
            count: free,
        })
    }

    /// Counts a job that the agent already holds (adopted after a reconnect).
    pub fn hold(&self, job_id: JobId) {
        lock(&self.use_of_slots).held.insert(job_id);
    }

    /// Whether the job is the agent's.
    pub fn holds(&self, job_id: JobId) -> bool {
        lock(&self.use_of_slots).held.contains(&job_id)
    }

    /// The job is no longer the agent's; `true` if it was.
    pub fn release(&self, job_id: JobId) -> bool {
        lock(&self.use_of_slots).held.remove(&job_id)
    }

    /// Nothing is offered to it until [`SessionEntry::offer_again`].
    pub fn refused(&self) {
        lock(&self.use_of_slots).refusing = true;
    }

    /// It may have room again.
    pub fn offer_again(&self) {
        lock(&self.use_of_slots).refusing = false;
        self.set_look(true);
    }

    /// No new work for this session.
    pub fn drain(&self) {
        lock(&self.use_of_slots).draining = true;
    }

    /// Jobs that the agent holds, as far as this server knows.
    pub fn held(&self) -> usize {
        lock(&self.use_of_slots).held.len()
    }
}

/// Slots kept free for jobs that are about to be handed out.
pub struct Reservation {
    entry: Arc<SessionEntry>,
    count: usize,
}

impl Reservation {
    /// How many.
    pub fn count(&self) -> usize {
        self.count
    }

    /// For the transaction that hands the job out.
    pub fn hand_off(&self, accept_within: Duration) -> HandOff {
        HandOff {
            agent_id: self.entry.agent_id,
            session_id: self.entry.session_id,
            accept_within,
        }
    }

    /// The job is committed as this session's: send it. If the session has just ended, the lease brings the job back.
    pub fn deliver(&mut self, claimed: Claimed) {
        let job_id = claimed.job.id;
        {
            let mut used = lock(&self.entry.use_of_slots);
            if self.count > 0 {
                self.count -= 1;
                used.reserved -= 1;
            }
            used.held.insert(job_id);
        }
        if self.entry.deliveries.send(claimed).is_err() {
            self.entry.release(job_id);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        lock(&self.entry.use_of_slots).reserved -= self.count;
    }
}

/// All sessions of this server.
#[derive(Default)]
pub struct Dispatch {
    sessions: Mutex<HashMap<SessionId, Arc<SessionEntry>>>,
}

impl Dispatch {
    /// From now on jobs may be handed to it, and to no earlier session of the same agent, which may not have ended yet.
    pub fn add(&self, entry: Arc<SessionEntry>) {
        let mut sessions = lock(&self.sessions);
        sessions.retain(|_, other| other.agent_id != entry.agent_id);
        sessions.insert(entry.session_id, entry);
    }

    /// No more.
    pub fn remove(&self, session_id: SessionId) {
        lock(&self.sessions).remove(&session_id);
    }

    /// A session of this server.
    pub fn get(&self, session_id: SessionId) -> Option<Arc<SessionEntry>> {
        lock(&self.sessions).get(&session_id).cloned()
    }

    /// Reserves a slot of the suitable session with the most free ones.
    pub fn reserve(&self, labels: &Labels, driver: Option<Driver>) -> Option<Reservation> {
        let sessions = lock(&self.sessions);
        let (_, entry) = sessions
            .values()
            .filter(|entry| entry.suits(labels, driver))
            .map(|entry| (entry.free(), entry))
            .filter(|(free, _)| *free > 0)
            .max_by_key(|(free, _)| *free)?;
        let mut used = lock(&entry.use_of_slots);
        // Looked at once more: a claim of the session itself may have taken the slots in between.
        if used.free(entry.slots) == 0 {
            return None;
        }
        used.reserved += 1;
        Some(Reservation {
            entry: entry.clone(),
            count: 1,
        })
    }

    /// Whether any session could take a job.
    pub fn has_free_slot(&self) -> bool {
        lock(&self.sessions).values().any(|entry| entry.free() > 0)
    }

    /// Who is busy now looks when a slot gets free.
    pub fn all_should_look(&self) {
        let sessions = lock(&self.sessions);
        for entry in sessions.values().filter(|entry| entry.free() == 0) {
            entry.set_look(true);
        }
    }

    /// Wakes sessions that suit, with the most free slots first, until there are slots enough for everything that is
    /// asked; one more for each, as the first may be the one that a lost job had better avoid.
    pub fn poke(&self, asked: &[Demand]) {
        let sessions = lock(&self.sessions);
        let mut free: HashMap<SessionId, usize> = sessions
            .iter()
            .map(|(id, entry)| (*id, entry.free()))
            .filter(|(_, free)| *free > 0)
            .collect();
        for asked in asked {
            let mut able: Vec<&Arc<SessionEntry>> = sessions
                .values()
                .filter(|entry| free.contains_key(&entry.session_id))
                .filter(|entry| entry.suits(&asked.labels, asked.driver))
                .collect();
            able.sort_by_key(|entry| Reverse(free.get(&entry.session_id).copied()));
            let mut wanted = usize::try_from(asked.jobs).unwrap_or(0);
            let mut spare = 1;
            for entry in able {
                let Some(left) = free.get_mut(&entry.session_id) else {
                    continue;
                };
                if wanted == 0 {
                    if spare == 0 {
                        break;
                    }
                    spare -= 1;
                }
                let taken = wanted.min(*left);
                wanted -= taken;
                *left -= taken;
                entry.set_look(true);
                entry.poke.notify_one();
            }
        }
    }

    /// Hints were lost: everybody looks for cancels.
    pub fn all_have_cancels(&self) {
        for entry in lock(&self.sessions).values() {
            entry.tell_of_cancel();
        }
    }

    /// The session of the agent of this name.
    pub fn of_agent(&self, name: &str) -> Option<Arc<SessionEntry>> {
        let sessions = lock(&self.sessions);
        let mut sessions = sessions.values();
        sessions.find(|entry| entry.agent_name == name).cloned()
    }

    /// Has every agent told something, as far as it can be.
    pub fn tell_all(&self, kind: &Told) {
        for entry in lock(&self.sessions).values() {
            entry.tell(kind.clone());
        }
    }

    /// Connected sessions.
    pub fn sessions(&self) -> Vec<SessionId> {
        lock(&self.sessions).keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::agent::Registration;
    use crate::model::{BootId, TokenId};
    use futures_util::FutureExt;

    fn entry(slots: i32, labels: &[(&str, &str)]) -> Arc<SessionEntry> {
        let registration = Registration {
            name: "a".into(),
            boot_id: BootId::new(),
            succeeds: false,
            session_id: SessionId::new(),
            token_id: TokenId::new(),
            slots,
            labels: labels
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            drivers: vec![Driver::Native],
            version: String::new(),
        };
        SessionEntry::new(&registration, AgentId::new()).0
    }

    #[test]
    fn a_dropped_reservation_gives_its_slots_back() {
        let entry = entry(2, &[]);
        let all = entry.reserve_free().unwrap();
        assert_eq!((all.count(), entry.free()), (2, 0));
        assert!(entry.reserve_free().is_none());
        drop(all);
        assert_eq!(entry.free(), 2);
    }

    #[test]
    fn a_job_goes_to_a_session_that_has_every_label_and_the_driver() {
        let dispatch = Dispatch::default();
        let (plain, gpu) = (entry(1, &[]), entry(1, &[("gpu", "yes")]));
        dispatch.add(plain.clone());
        dispatch.add(gpu.clone());
        let wanted = Labels::from([("gpu".to_owned(), "yes".to_owned())]);
        assert!(dispatch.reserve(&wanted, Some(Driver::Docker)).is_none());
        let held = dispatch.reserve(&wanted, Some(Driver::Native)).unwrap();
        assert_eq!((plain.free(), gpu.free()), (1, 0));
        assert!(dispatch.reserve(&wanted, None).is_none());
        drop(held);
        gpu.drain();
        assert!(dispatch.reserve(&wanted, None).is_none(), "draining");
    }

    #[test]
    fn whoever_refused_is_offered_nothing_for_a_while() {
        let entry = entry(2, &[]);
        entry.set_look(false);
        entry.refused();
        assert!(entry.free() == 0 && entry.reserve_free().is_none());
        entry.offer_again();
        assert!(entry.free() == 2 && entry.should_look());
    }

    #[tokio::test]
    async fn only_as_many_sessions_are_woken_as_there_are_jobs_and_only_those_that_suit() {
        let dispatch = Dispatch::default();
        let entries: Vec<_> = (0..10).map(|_| entry(1, &[("os", "linux")])).collect();
        let other = entry(1, &[("os", "plan9")]);
        for entry in entries.iter().chain([&other]) {
            dispatch.add(entry.clone());
        }
        let asked = |jobs| Demand {
            labels: Labels::from([("os".to_owned(), "linux".to_owned())]),
            driver: None,
            jobs,
        };
        let woken = |entry: &Arc<SessionEntry>| entry.poked().now_or_never().is_some();
        dispatch.poke(&[asked(3)]);
        let count = entries.iter().filter(|entry| woken(entry)).count();
        assert_eq!(count, 3 + 1, "one to spare");
        assert!(!woken(&other));
        // What one demand takes is not there for the next one.
        dispatch.poke(&[asked(4), asked(4)]);
        assert!(entries.iter().filter(|entry| woken(entry)).count() >= 8);
    }
}
