//! The event loop while a journal is played: what entered the program enters again, in the same order, at once.

use super::calls::Event;
use super::event_loop::{EventLoop, number};
use super::host::{Answer, Failure};
use super::journal::tape::Entered;
use std::time::Duration;

impl EventLoop<'_> {
    /// Lets the next thing enter; afterwards the loop looks at its ends again.
    pub(super) fn replay(&mut self) {
        let Some((entered, at_ms)) = self.shared.record.borrow().next() else {
            return self.go_live();
        };
        match entered {
            Entered::Timer(id) => self.replay_timer(id, at_ms),
            Entered::Output(call, printed) => {
                if !self.is_open(call) {
                    return self.diverge(call, "printed");
                }
                self.advance(at_ms);
                // A step that is run again prints again.
                if !self.shared.record.borrow().is_again(call) {
                    self.shared.calls.borrow().saw(u64::from(call), &printed);
                    let told = self.output(u64::from(call), &printed);
                    self.caught(told);
                }
            }
            Entered::Done(call) => self.replay_end(call, at_ms),
        }
    }

    /// The journal is played: what was under way when it ended is carried out now.
    fn go_live(&mut self) {
        // What such a call was made of, chance or the time, is stored before it begins.
        if self.shared.calls.borrow().has_later() && !self.shared.flush() {
            return;
        }
        self.live = true;
        self.shared.timers.borrow_mut().set_behind(Duration::ZERO);
        let runtime = &self.shared.runtime;
        self.shared.calls.borrow_mut().release(runtime);
        // Begun beside what was done again, and ended before it: new to the journal.
        let ended = std::mem::take(&mut self.ended_early).into_iter();
        self.record_all(
            ended
                .map(|(call, result)| Event::Done { call, result })
                .collect(),
        );
    }

    /// It has entered: what the program sets now, it sets then.
    fn advance(&self, at_ms: u64) {
        self.shared.record.borrow_mut().advance();
        self.set_present(at_ms);
    }

    fn replay_timer(&mut self, id: u32, at_ms: u64) {
        // An interval goes on from when it fired.
        self.set_present(at_ms);
        let due = self.shared.timers.borrow_mut().take(id);
        let Some(due) = due else {
            let why = format!("timer {id}, which fired then, was not set");
            return self.shared.watch.diverge(why);
        };
        self.advance(at_ms);
        self.fire(due);
    }

    fn replay_end(&mut self, call: u32, at_ms: u64) {
        if !self.is_open(call) {
            return self.diverge(call, "ended");
        }
        let again = self.shared.record.borrow().is_again(call);
        let result = if again {
            let Some(result) = self.end_of(u64::from(call)) else {
                return; // stopped
            };
            self.shared.record.borrow_mut().ended(call, &result);
            if !self.shared.flush() {
                return;
            }
            result
        } else {
            let known = self.shared.record.borrow().known(call).cloned();
            let Some(known) = known else {
                return self.diverge(call, "ended");
            };
            self.tell_taken(call, &known.ended, known.attempt);
            known.ended
        };
        self.advance(at_ms);
        let done = self.done(u64::from(call), result);
        self.caught(done);
    }

    /// One line for a step that is not run again.
    fn tell_taken(&self, call: u32, ended: &Result<Answer, Failure>, attempt: u32) {
        if let Ok(Answer::Run(run)) = ended {
            let record = self.shared.record.borrow();
            let label = record.made(call).map_or("", |made| made.label.as_str());
            let name = label.split_once(' ').map_or(label, |(_, name)| name);
            let line = format!(
                "step {} {name} is taken from attempt {attempt}'s journal",
                run.step
            );
            drop(record);
            self.note(&line);
        }
    }

    /// Waits for a call that is carried out again; `None` if the run is stopped.
    fn end_of(&mut self, wanted: u64) -> Option<Result<Answer, Failure>> {
        loop {
            if let Some(result) = self.ended_early.remove(&wanted) {
                return Some(result);
            }
            match self.receive()? {
                Event::Done { call, result } => {
                    self.ended_early.insert(call, result);
                }
                Event::Output {
                    call,
                    printed,
                    permit,
                } => {
                    let full = {
                        let mut record = self.shared.record.borrow_mut();
                        record.output_before(number(wanted), number(call), &printed);
                        record.is_full()
                    };
                    if full && !self.shared.flush() {
                        return None;
                    }
                    let told = self.output(call, &printed);
                    drop(permit);
                    self.caught(told);
                }
            }
        }
    }

    fn is_open(&self, call: u32) -> bool {
        self.shared.calls.borrow().is_open(u64::from(call))
    }

    fn diverge(&self, call: u32, what: &str) {
        let record = self.shared.record.borrow();
        let (label, attempt) = match record.known(call) {
            Some(known) => (known.label.clone(), known.attempt),
            None => ("a step".to_owned(), 0),
        };
        drop(record);
        self.shared.watch.diverge(format!(
            "call {call}, {label}, which {what} in attempt {attempt}, was not made"
        ));
    }
}
