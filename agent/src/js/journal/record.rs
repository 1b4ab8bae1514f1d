//! One job's journal while it runs: numbers its calls, decides which are taken from the tape, gathers what is to be stored.
//!
//! Pure but for the clock: who waits and who runs is in `issue` and `event_loop`.

use super::entry::{self, CLOCK, DONE, Ended, NOW, OUTPUT, Place, SEED, TIMERS};
use super::random::Random;
use super::tape::{Entered, Known, Tape};
use super::{Entry, Journal, Sink};
use crate::js::host::Printed;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use time::OffsetDateTime;

/// Readings of the clock are as exact as this: a tenth of a millisecond, as in browsers.
pub(in crate::js) const TICKS_PER_MS: u64 = 10;
/// Distinct readings of the clock that may wait to be stored; a program with more has no journal any more.
const MAX_READINGS: usize = 100_000;
/// Bytes that may wait to be stored before they are, without any call's end.
const MAX_WAITING_BYTES: usize = 256 * 1024;

/// What a call needs of what lives beside the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::js) enum Needs {
    /// Nothing.
    Nothing,
    /// It makes a volume.
    Volume,
    /// It uses these volumes.
    Volumes(Vec<String>),
    /// It concerns a sandbox.
    Sandbox,
}

/// A call as it is made.
#[derive(Debug, Clone)]
pub(in crate::js) struct Made {
    /// For people, for example `runtime.run 'build'`.
    pub label: String,
    /// Of kind and arguments.
    pub hash: [u8; 32],
    /// See [`Needs`].
    pub needs: Needs,
}

/// What is to become of a call.
#[derive(Debug, PartialEq)]
pub(in crate::js) enum Plan {
    /// It is carried out.
    Live,
    /// Its end is in the journal.
    Taken,
    /// It is a volume, and the journal says what it was: taken if that is still there.
    Revive(serde_json::Value),
    /// It is carried out although its end is in the journal, which it replaces.
    Again(String),
    /// It is carried out when the journal is played.
    Later,
    /// The journal has another call here.
    Diverged(String),
}

/// See the module.
pub(in crate::js) struct Record {
    sink: Option<Arc<dyn Sink>>,
    tape: Tape,
    calls: u32,
    made: BTreeMap<u32, Made>,
    /// Calls carried out again.
    again: BTreeSet<u32>,
    /// Calls that printed while the journal was played.
    printed: BTreeSet<u32>,
    /// Volumes that are not what they were.
    dead: BTreeSet<String>,
    waiting: Vec<Entry>,
    waiting_bytes: usize,
    /// Timers that fired after the last of `waiting`.
    timers: Vec<(u64, u64)>,
    /// Readings of the clock, as differences; of no order among the others.
    clock: Vec<(u64, u64)>,
    last_reading: u64,
    /// When this process began the job, in ticks since 1970.
    started: u64,
    /// The journal does not say yet when the job began.
    tells_began: bool,
    /// The first reading of the clock.
    origin: Option<u64>,
    random: Option<Random>,
}

/// The time, in milliseconds since 1970.
pub(in crate::js) fn unix_ms() -> u64 {
    u64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap_or_default()
}

/// The time, in [`TICKS_PER_MS`] since 1970.
pub(in crate::js) fn now_ticks() -> u64 {
    u64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 100_000).unwrap_or_default()
}

impl Record {
    /// `started` is when this process began the job, in [`TICKS_PER_MS`] since 1970.
    pub fn new(journal: Option<Journal>, started: u64) -> Self {
        let (tape, sink) = match journal {
            Some(journal) => (journal.tape, Some(journal.sink)),
            None => (Tape::default(), None),
        };
        Self {
            tells_began: tape.is_empty(),
            sink,
            tape,
            calls: 0,
            made: BTreeMap::new(),
            again: BTreeSet::new(),
            printed: BTreeSet::new(),
            dead: BTreeSet::new(),
            waiting: Vec::new(),
            waiting_bytes: 0,
            timers: Vec::new(),
            clock: Vec::new(),
            last_reading: 0,
            started,
            origin: None,
            random: None,
        }
    }

    /// The number of the call made next.
    pub fn number(&mut self) -> u32 {
        self.calls += 1;
        self.calls
    }

    /// Whether something that entered earlier has yet to enter again.
    pub fn is_replaying(&self) -> bool {
        !self.tape.is_played()
    }

    /// What the program left in the journal at its end, if it did.
    pub fn left_over(&self) -> Option<String> {
        if self.tape.is_used_up() {
            return None;
        }
        Some("the program ended before the journal did".to_owned())
    }

    /// What becomes of this call.
    pub fn plan(&mut self, call: u32, made: Made) -> Plan {
        let plan = self.plan_of(call, &made);
        if matches!(plan, Plan::Again(_)) {
            self.again.insert(call);
        }
        self.made.insert(call, made);
        plan
    }

    fn plan_of(&self, call: u32, made: &Made) -> Plan {
        let Some(known) = self.tape.known(call) else {
            // What is done again meanwhile may need it, a server in a sandbox say.
            let beside = match &made.needs {
                Needs::Sandbox => true,
                Needs::Volumes(names) => names.iter().any(|name| self.dead.contains(name)),
                Needs::Nothing | Needs::Volume => false,
            };
            return match self.is_replaying() && !beside {
                true => Plan::Later,
                false => Plan::Live,
            };
        };
        if known.hash != made.hash {
            return Plan::Diverged(format!(
                "call {call} is {}, and was {} with {} arguments in attempt {}",
                made.label,
                known.label,
                if known.label == made.label {
                    "other"
                } else {
                    "its"
                },
                known.attempt
            ));
        }
        match (&made.needs, &known.ended) {
            (Needs::Volume, Ok(crate::js::host::Answer::Json(volume))) => {
                Plan::Revive(volume.clone())
            }
            (Needs::Sandbox, _) => Plan::Again("sandboxes are always started anew".to_owned()),
            (Needs::Volumes(names), _) => {
                let gone = names.iter().find(|name| self.dead.contains(*name));
                gone.map_or(Plan::Taken, |name| {
                    Plan::Again(format!("its volume '{name}' is gone"))
                })
            }
            _ => Plan::Taken,
        }
    }

    /// The volume that a call made is gone: it is made again, and whatever uses it is done again.
    pub fn bury(&mut self, call: u32, volume: &str) {
        self.again.insert(call);
        self.dead.insert(volume.to_owned());
    }

    /// The call as it was made.
    pub fn made(&self, call: u32) -> Option<&Made> {
        self.made.get(&call)
    }

    /// How the journal says that the call ended.
    pub fn known(&self, call: u32) -> Option<&Known> {
        self.tape.known(call)
    }

    /// Whether the call is carried out again.
    pub fn is_again(&self, call: u32) -> bool {
        self.again.contains(&call)
    }

    /// What enters next, and when it had (milliseconds since 1970).
    pub fn next(&self) -> Option<(Entered, u64)> {
        self.tape.next().map(|(entered, at)| (entered.clone(), at))
    }

    /// It has entered.
    pub fn advance(&mut self) {
        self.tape.advance();
    }

    /// When the job's program began, by its journal; `None` if that says nothing of it (milliseconds since 1970).
    pub fn began_ms(&self) -> Option<u64> {
        let first = self.tape.next().map(|(_, at)| at);
        self.tape.began_ms().or(first)
    }

    fn push(&mut self, entry: Entry) {
        self.close_timers();
        self.waiting_bytes += entry.data.len();
        self.waiting.push(entry);
    }

    fn close_timers(&mut self) {
        if !self.timers.is_empty() {
            let runs = std::mem::take(&mut self.timers);
            let entry = entry::plain(TIMERS, &json!({ "runs": runs, "at": unix_ms() }));
            self.waiting_bytes += entry.data.len();
            self.waiting.push(entry);
        }
    }

    /// A timer fires.
    pub fn fired(&mut self, timer: u32) {
        if self.sink.is_some() {
            entry::count(&mut self.timers, u64::from(timer));
        }
    }

    /// A call has ended; the program has not seen it.
    pub fn ended(&mut self, call: u32, ended: &Ended) {
        self.end(DONE, call, ended);
    }

    /// The same of a call for which the program waits on the spot.
    pub fn answered(&mut self, call: u32, ended: &Ended) {
        self.end(NOW, call, ended);
    }

    fn end(&mut self, kind: &str, call: u32, ended: &Ended) {
        let (Some(sink), Some(made)) = (&self.sink, self.made.get(&call)) else {
            return;
        };
        let entry = Entry {
            call,
            hash: made.hash.to_vec(),
            data: entry::write_end(ended, &made.label, unix_ms(), &**sink),
            ..entry::plain(kind, &serde_json::Value::Null)
        };
        self.push(entry);
    }

    /// Output for `onOutput`.
    pub fn output(&mut self, call: u32, printed: &Printed) {
        self.print(call, printed, None);
    }

    /// The same while the journal is played and waits for the end of `before`: that is its place in the order.
    pub fn output_before(&mut self, before: u32, call: u32, printed: &Printed) {
        let first = self.printed.insert(call);
        self.print(call, printed, Some(Place { before, first }));
    }

    fn print(&mut self, call: u32, printed: &Printed, place: Option<Place>) {
        if self.sink.is_some() {
            let entry = Entry {
                call,
                data: entry::write_output(printed, place, unix_ms()),
                ..entry::plain(OUTPUT, &serde_json::Value::Null)
            };
            self.push(entry);
        }
    }

    /// Whether so much waits that it should be stored now.
    pub fn is_full(&self) -> bool {
        self.waiting_bytes > MAX_WAITING_BYTES
    }

    /// What is to be stored, and where.
    pub fn take(&mut self) -> Option<(Vec<Entry>, Arc<dyn Sink>)> {
        let sink = self.sink.clone()?;
        self.close_timers();
        if !self.clock.is_empty() {
            let runs = std::mem::take(&mut self.clock);
            self.waiting
                .push(entry::plain(CLOCK, &json!({ "runs": runs })));
        }
        self.waiting_bytes = 0;
        let mut entries = std::mem::take(&mut self.waiting);
        if let Some(first) = entries.first_mut()
            && std::mem::take(&mut self.tells_began)
        {
            entry::tell_began(first, self.started / TICKS_PER_MS);
        }
        (!entries.is_empty()).then_some((entries, sink))
    }

    /// The journal has ended: nothing more is recorded.
    pub fn stop(&mut self) {
        self.sink = None;
        self.waiting.clear();
        self.timers.clear();
        self.clock.clear();
    }

    /// Whether the program reads the clock more often than a journal can hold.
    pub fn reads_too_much(&self) -> bool {
        self.clock.len() > MAX_READINGS
    }

    /// The time, in [`TICKS_PER_MS`] since 1970; never less than before.
    pub fn clock(&mut self) -> u64 {
        self.origin();
        self.read(now_ticks())
    }

    /// When the job began. Always the first reading, so that it has a place in the journal.
    pub fn origin(&mut self) -> u64 {
        match self.origin {
            Some(origin) => origin,
            None => {
                let origin = self.read(self.started);
                self.origin = Some(origin);
                origin
            }
        }
    }

    fn read(&mut self, now: u64) -> u64 {
        self.last_reading = match self.tape.tick() {
            Some(difference) => self.last_reading.saturating_add(difference),
            None => {
                let reading = now.max(self.last_reading);
                if self.sink.is_some() {
                    entry::count(&mut self.clock, reading - self.last_reading);
                }
                reading
            }
        };
        self.last_reading
    }

    /// Random bytes; `None` if the system has none to give.
    pub fn random(&mut self, bytes: &mut [u8]) -> Option<()> {
        if self.random.is_none() {
            let seed = match self.tape.seed() {
                Some(seed) => seed,
                None => {
                    let mut seed = [0; 32];
                    SystemRandom::new().fill(&mut seed).ok()?;
                    if self.sink.is_some() {
                        self.push(entry::plain(SEED, &json!({ "seed": seed })));
                    }
                    seed
                }
            };
            self.random = Some(Random::new(seed));
        }
        self.random.as_mut()?.fill(bytes);
        Some(())
    }
}
