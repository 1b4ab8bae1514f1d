//! A local run on the terminal: every line with its step, what is under way in the last line, a table at the end.
//!
//! On a terminal lines are coloured and the last one is alive; anywhere else they are plain and nothing is redrawn.

use indicatif::{ProgressBar, ProgressStyle};
use pb::log_chunk::Stream;
use pb::report::Kind;
use pocketci_proto::agent as pb;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the last line is drawn.
const TICK: Duration = Duration::from_millis(100);
/// Colours of steps, one after the other (ANSI): none that reads as good or bad.
const COLOURS: [u8; 6] = [36, 35, 34, 33, 96, 95];
/// A longer name is cut in prefixes.
const NAME_CHARS: usize = 20;

struct Step {
    name: String,
    status: String,
    code: i32,
    started: Instant,
    took: Option<Duration>,
}

/// See the module.
pub struct Display {
    alive: Option<ProgressBar>,
    steps: BTreeMap<u32, Step>,
    /// Unfinished lines of each step and stream.
    lines: BTreeMap<(u32, i32), Vec<u8>>,
    started: Instant,
    end: pb::Finished,
}

impl Display {
    /// `plain` wants no colours and nothing redrawn even on a terminal.
    pub fn new(plain: bool) -> Self {
        let terminal = std::io::stderr().is_terminal() && std::io::stdout().is_terminal();
        let wanted = !plain && terminal && std::env::var_os("NO_COLOR").is_none();
        let alive = wanted.then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(TICK);
            bar
        });
        let mut display = Self {
            alive,
            steps: BTreeMap::new(),
            lines: BTreeMap::new(),
            started: Instant::now(),
            end: pb::Finished::default(),
        };
        display.refresh();
        display
    }

    /// Something that the pipeline did.
    pub fn report(&mut self, report: Kind) {
        match report {
            Kind::StepStarted(step) => {
                let image = if step.image.is_empty() {
                    String::new()
                } else {
                    format!(" in {}", step.image)
                };
                let name = if step.name.is_empty() {
                    format!("step {}", step.step)
                } else {
                    step.name
                };
                self.steps.insert(
                    step.step,
                    Step {
                        name,
                        status: "running".to_owned(),
                        code: 0,
                        started: Instant::now(),
                        took: None,
                    },
                );
                self.say(step.step, &format!("started{image}"));
            }
            Kind::StepFinished(finished) => {
                self.flush(Some(finished.step));
                if let Some(step) = self.steps.get_mut(&finished.step) {
                    step.took = Some(step.started.elapsed());
                    step.code = finished.exit_code;
                    step.status = match (finished.status.as_str(), finished.exit_code) {
                        ("complete", 0) => "ok".to_owned(),
                        ("complete", _) => "failed".to_owned(),
                        (other, _) => other.to_owned(),
                    };
                }
                if !finished.message.is_empty() {
                    self.say(finished.step, &finished.message);
                }
            }
            Kind::Respond(reply) => self.reply(&reply),
            Kind::Noted(noted) => {
                if let Some(pb::noted::Kind::Emitted(event)) = noted.kind {
                    self.line(&format!("event {}: {}", event.name, event.payload_json));
                }
            }
            Kind::Finished(finished) => self.end = finished,
            Kind::Accepted(_) | Kind::Rejected(_) => {}
        }
        self.refresh();
    }

    fn reply(&mut self, reply: &pb::Respond) {
        self.line(&self.coloured(32, &format!("reply {}", reply.status)));
        for header in &reply.headers {
            self.line(&format!("  {}: {}", header.name, header.value));
        }
        for line in String::from_utf8_lossy(&reply.body).lines() {
            self.line(&format!("  {line}"));
        }
    }

    /// A piece of output: whole lines are shown.
    pub fn output(&mut self, chunk: &pb::LogChunk) {
        let key = (chunk.step, chunk.stream);
        self.lines
            .entry(key)
            .or_default()
            .extend_from_slice(&chunk.data);
        loop {
            let Some(pending) = self.lines.get_mut(&key) else {
                return;
            };
            let Some(end) = pending.iter().position(|byte| *byte == b'\n') else {
                return;
            };
            let line: Vec<u8> = pending.drain(..=end).collect();
            self.print(key, &String::from_utf8_lossy(&line));
        }
    }

    /// Shows unfinished lines, of one step or all.
    fn flush(&mut self, step: Option<u32>) {
        let keys: Vec<(u32, i32)> = self.lines.keys().copied().collect();
        for key in keys {
            if step.is_some_and(|step| step != key.0) {
                continue;
            }
            let rest = self.lines.remove(&key).unwrap_or_default();
            if !rest.is_empty() {
                self.print(key, &String::from_utf8_lossy(&rest));
            }
        }
    }

    fn print(&self, (step, stream): (u32, i32), line: &str) {
        let line = line.trim_end_matches(['\n', '\r']);
        let text = match Stream::try_from(stream) {
            Ok(Stream::Stderr) => self.coloured(31, line),
            Ok(Stream::System) => self.coloured(2, line),
            Ok(Stream::Stdout | Stream::Unspecified) | Err(_) => line.to_owned(),
        };
        match step {
            0 => self.line(&text),
            step => self.say(step, &text),
        }
    }

    /// A line of a step's.
    fn say(&self, step: u32, text: &str) {
        let name = self.steps.get(&step).map_or("", |step| step.name.as_str());
        let name: String = name.chars().take(NAME_CHARS).collect();
        let colour = COLOURS[step as usize % COLOURS.len()];
        self.line(&format!(
            "{} {text}",
            self.coloured(colour, &format!("[{name}]"))
        ));
    }

    fn coloured(&self, colour: u8, text: &str) -> String {
        match self.alive {
            Some(_) => format!("\u{1b}[{colour}m{text}\u{1b}[0m"),
            None => text.to_owned(),
        }
    }

    fn line(&self, text: &str) {
        match &self.alive {
            Some(bar) => bar.suspend(|| println!("{text}")),
            // A closed pipe (`| head`) is no reason to end the run.
            None => drop(writeln!(std::io::stdout().lock(), "{text}")),
        }
    }

    /// Leaves the last line to somebody who asks a question.
    pub fn pause(&mut self) {
        if let Some(bar) = &self.alive {
            bar.finish_and_clear();
        }
    }

    fn refresh(&mut self) {
        let Some(bar) = &self.alive else { return };
        let running: Vec<String> = self
            .steps
            .values()
            .filter(|step| step.took.is_none())
            .map(|step| step.name.clone())
            .collect();
        bar.set_message(match running.as_slice() {
            [] => "the pipeline works".to_owned(),
            [one] => format!("{one} runs"),
            several => format!("{} steps run: {}", several.len(), several.join(", ")),
        });
    }

    /// The table and the last word; returns the outcome.
    pub fn finish(&mut self) -> String {
        self.flush(None);
        self.pause();
        if !self.steps.is_empty() {
            let width = self
                .steps
                .values()
                .map(|step| step.name.chars().count())
                .max();
            let width = width.unwrap_or(0).max("STEP".len());
            self.line("");
            self.line(&format!(
                "{:<width$}  {:<8}  {:>4}  {:>9}",
                "STEP", "STATUS", "CODE", "TIME"
            ));
            for step in self.steps.values() {
                let took = step.took.unwrap_or_else(|| step.started.elapsed());
                let colour = if step.status == "ok" { 32 } else { 31 };
                let status = self.coloured(colour, &format!("{:<8}", step.status));
                self.line(&format!(
                    "{:<width$}  {status}  {:>4}  {:>7.2} s",
                    step.name,
                    step.code,
                    took.as_secs_f64()
                ));
            }
        }
        let outcome = self.end.outcome.clone();
        let colour = if outcome == "succeeded" { 32 } else { 31 };
        let why = match (self.end.reason.as_str(), outcome.as_str()) {
            // Its message was printed where it failed.
            (_, "succeeded" | "failed") => String::new(),
            ("", _) => format!(": {}", self.end.message),
            (reason, _) => format!(" ({reason}): {}", self.end.message),
        };
        let took = self.started.elapsed().as_secs_f64();
        self.line(&self.coloured(colour, &format!("{outcome} in {took:.2} s{why}")));
        outcome
    }
}
