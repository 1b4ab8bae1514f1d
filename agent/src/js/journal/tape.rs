//! A journal being read: what entered the program, in order, and answers by call.

use super::entry::{self, CLOCK, DONE, Ended, NOW, OUTPUT, Place, SEED, TIMERS};
use super::{Entry, SECRETS};
use crate::js::host::{Answer, Printed};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What entered the program from its event loop.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::js) enum Entered {
    /// The end of a call.
    Done(u32),
    /// Output of a step.
    Output(u32, Printed),
    /// A timer fired.
    Timer(u32),
}

/// Something that enters, so many times, at a time in milliseconds since 1970.
struct Next {
    entered: Entered,
    at_ms: u64,
    times: u64,
}

/// Output with its place: before the end of this call; of the same place, in this order.
struct Placed {
    before: u32,
    order: usize,
    next: Next,
}

/// What is known of a call.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::js) struct Known {
    pub hash: Vec<u8>,
    pub ended: Ended,
    pub attempt: u32,
    /// What it was, for people.
    pub label: String,
}

/// A journal being read; see the module.
#[derive(Default)]
pub struct Tape {
    entered: VecDeque<Next>,
    known: BTreeMap<u32, Known>,
    clock: VecDeque<(u64, u64)>,
    /// Output that came while the journal was played, by call; read to its end, a tape has none here.
    placed: BTreeMap<u32, Vec<Placed>>,
    /// The same of calls that were done again and have not ended again.
    unended: BTreeMap<u32, Vec<Placed>>,
    /// Calls that were done again.
    redone: BTreeSet<u32>,
    seed: Option<[u8; 32]>,
    secrets: BTreeSet<String>,
    last_step: u32,
    began_ms: Option<u64>,
}

/// The journal has an entry that this program cannot read.
#[derive(Debug, thiserror::Error)]
#[error("journal entry {0} is not readable; was it written by a newer agent?")]
pub struct Unreadable(usize);

impl Tape {
    /// Reads entries in their order.
    ///
    /// # Errors
    /// An entry of another kind or form.
    pub fn read(entries: &[Entry]) -> Result<Self, Unreadable> {
        let mut tape = Self::default();
        for (at, entry) in entries.iter().enumerate() {
            tape.add(at, entry).ok_or(Unreadable(at + 1))?;
        }
        tape.settle();
        Ok(tape)
    }

    fn add(&mut self, order: usize, entry: &Entry) -> Option<()> {
        let data: Value = serde_json::from_slice(&entry.data).ok()?;
        self.began_ms = self.began_ms.or_else(|| entry::began_ms(&data));
        match entry.kind.as_str() {
            DONE | NOW => {
                let ended = entry::read_end(&data)?;
                if let Ok(Answer::Run(run)) = &ended {
                    self.last_step = self.last_step.max(run.step);
                }
                let known = Known {
                    hash: entry.hash.clone(),
                    ended,
                    attempt: entry.attempt,
                    label: entry::label(&data),
                };
                // A call that was made again keeps its place in the order.
                let again = self.known.insert(entry.call, known).is_some();
                if entry.kind == DONE && !again {
                    self.push(Entered::Done(entry.call), &data, 1);
                }
                if again {
                    // Its output is what it printed this time.
                    let printed = self.unended.remove(&entry.call);
                    self.placed.insert(entry.call, printed.unwrap_or_default());
                    self.redone.insert(entry.call);
                }
            }
            OUTPUT => {
                let (printed, place) = entry::read_output(&data)?;
                let entered = Entered::Output(entry.call, printed);
                match place {
                    Some(place) => self.place(entry.call, place, order, next(entered, &data, 1)),
                    None => self.push(entered, &data, 1),
                }
            }
            TIMERS => {
                for (id, count) in entry::read_runs(&data)? {
                    let entered = Entered::Timer(u32::try_from(id).ok()?);
                    self.push(entered, &data, count);
                }
            }
            CLOCK => self.clock.extend(entry::read_runs(&data)?),
            SEED => self.seed = Some(serde_json::from_value(data["seed"].clone()).ok()?),
            SECRETS => {
                let names: Vec<String> = serde_json::from_value(data["names"].clone()).ok()?;
                self.secrets.extend(names);
            }
            _ => return None,
        }
        Some(())
    }

    fn push(&mut self, entered: Entered, data: &Value, times: u64) {
        self.entered.push_back(next(entered, data, times));
    }

    fn place(&mut self, call: u32, place: Place, order: usize, next: Next) {
        let all = match self.known.contains_key(&call) {
            true => &mut self.unended,
            false => &mut self.placed,
        };
        let printed = all.entry(call).or_default();
        if place.first && self.known.contains_key(&call) {
            printed.clear();
        }
        printed.push(Placed {
            before: place.before,
            order,
            next,
        });
    }

    /// Puts output where it belongs, once every entry is read.
    fn settle(&mut self) {
        // Of a try that did not come to an end.
        self.unended.clear();
        let redone = std::mem::take(&mut self.redone);
        let placed = std::mem::take(&mut self.placed);
        if redone.is_empty() && placed.is_empty() {
            return;
        }
        let mut all: Vec<Placed> = placed.into_values().flatten().collect();
        all.sort_by_key(|placed| placed.order);
        let mut places: BTreeMap<u32, Vec<Next>> = BTreeMap::new();
        for placed in all {
            places.entry(placed.before).or_default().push(placed.next);
        }
        for next in std::mem::take(&mut self.entered) {
            match next.entered {
                Entered::Output(call, _) if redone.contains(&call) => continue,
                Entered::Done(call) => self
                    .entered
                    .extend(places.remove(&call).unwrap_or_default()),
                Entered::Output(..) | Entered::Timer(_) => {}
            }
            self.entered.push_back(next);
        }
    }

    /// Whether nothing is recorded.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.is_played() && self.clock.is_empty() && self.seed.is_none()
    }

    /// Whether everything that entered the program has entered it again.
    pub(in crate::js) fn is_played(&self) -> bool {
        self.entered.is_empty()
    }

    /// Whether the program has asked for everything that it had asked for.
    pub(in crate::js) fn is_used_up(&self) -> bool {
        self.is_played() && self.clock.is_empty()
    }

    /// Highest number of a step.
    pub fn last_step(&self) -> u32 {
        self.last_step
    }

    /// Names of the secrets that were resolved.
    pub fn secrets(&self) -> Vec<String> {
        self.secrets.iter().cloned().collect()
    }

    /// What enters next, and when it had.
    pub(in crate::js) fn next(&self) -> Option<(&Entered, u64)> {
        let next = self.entered.front()?;
        Some((&next.entered, next.at_ms))
    }

    /// It has entered.
    pub(in crate::js) fn advance(&mut self) {
        if let Some(next) = self.entered.front_mut() {
            next.times = next.times.saturating_sub(1);
            if next.times == 0 {
                self.entered.pop_front();
            }
        }
    }

    /// How a call ended.
    pub(in crate::js) fn known(&self, call: u32) -> Option<&Known> {
        self.known.get(&call)
    }

    /// When the job's program began, in milliseconds since 1970; `None` if the journal is older than that saying.
    pub(in crate::js) fn began_ms(&self) -> Option<u64> {
        self.began_ms
    }

    /// The next reading of the clock, as the difference to the one before.
    pub(in crate::js) fn tick(&mut self) -> Option<u64> {
        let (value, count) = self.clock.front_mut()?;
        let value = *value;
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.clock.pop_front();
        }
        Some(value)
    }

    /// The seed of all randomness.
    pub(in crate::js) fn seed(&self) -> Option<[u8; 32]> {
        self.seed
    }
}

fn next(entered: Entered, data: &Value, times: u64) -> Next {
    Next {
        entered,
        at_ms: entry::at_ms(data),
        times,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::OutputStream;
    use serde_json::json;

    fn printed(text: &'static str) -> Printed {
        Printed {
            step: 7,
            stream: OutputStream::Stderr,
            bytes: text.into(),
        }
    }

    fn output(call: u32, text: &'static str, before: Option<u32>) -> Entry {
        let place = before.map(|before| Place {
            before,
            first: true,
        });
        Entry {
            call,
            data: entry::write_output(&printed(text), place, 1),
            ..entry::plain(OUTPUT, &Value::Null)
        }
    }

    fn done(call: u32) -> Entry {
        Entry {
            call,
            ..entry::plain(DONE, &json!({}))
        }
    }

    fn played(entries: &[Entry]) -> Vec<Entered> {
        let mut tape = Tape::read(entries).unwrap();
        let mut played = Vec::new();
        while let Some((entered, _)) = tape.next() {
            played.push(entered.clone());
            tape.advance();
        }
        played
    }

    #[test]
    fn output_of_calls_done_again_takes_the_place_of_what_they_printed_before() {
        let mut entries = vec![
            output(1, "old", None),
            done(1),
            done(2),
            // An attempt that died while call 1 was done again, and one that did not.
            output(1, "half", Some(1)),
            output(1, "new", Some(1)),
            output(3, "beside", Some(2)),
        ];
        let beside = [
            Entered::Done(1),
            Entered::Output(3, printed("beside")),
            Entered::Done(2),
        ];
        let half = played(&entries);
        assert_eq!(half[0], Entered::Output(1, printed("old")));
        assert_eq!(half[1..], beside);
        entries.push(done(1));
        let whole = played(&entries);
        assert_eq!(whole[0], Entered::Output(1, printed("new")));
        assert_eq!(whole[1..], beside);
    }
}
