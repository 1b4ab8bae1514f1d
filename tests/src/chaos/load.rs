//! Callers with signed webhooks, the pipelines they start, and a record of every answer.

use super::schedule::Dice;
use crate::Client;
use crate::client::sign;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Of every pipeline here.
const SECRET: &str = "chaos-webhook-secret";
/// A caller's pause after an answer that asks for another try.
const AGAIN_AFTER: Duration = Duration::from_millis(300);
/// A caller's patience with one try: above the servers' own deadline.
const TRY_WITHIN: Duration = Duration::from_secs(20);

/// What a webhook starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Answers, and that is all.
    Quick,
    /// Answers, then runs two native steps.
    Native,
    /// Answers, then runs a container.
    Docker,
    /// Writes a value, then answers.
    Storage,
    /// Answers, then starts a run of another pipeline.
    Parent,
    /// Says nothing; the server answers.
    Silent,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Quick,
        Self::Native,
        Self::Docker,
        Self::Storage,
        Self::Parent,
        Self::Silent,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Native => "native",
            Self::Docker => "docker",
            Self::Storage => "storage",
            Self::Parent => "parent",
            Self::Silent => "silent",
        }
    }

    fn drawn(dice: &mut Dice) -> Self {
        match dice.below(20) {
            0..=6 => Self::Quick,
            7..=11 => Self::Native,
            12..=14 => Self::Docker,
            15..=16 => Self::Storage,
            17..=18 => Self::Parent,
            _ => Self::Silent,
        }
    }

    /// Endings of the nonce for each step that a successful run has run.
    pub fn steps(self) -> &'static [&'static str] {
        match self {
            Self::Native => &["a", "b"],
            Self::Docker => &["c"],
            Self::Quick | Self::Storage | Self::Parent | Self::Silent => &[],
        }
    }
}

/// What a caller got for one try.
#[derive(Debug, Clone)]
pub struct Try {
    /// Its delivery; the receipt's body has it.
    pub body: String,
    /// What it was meant to start.
    pub kind: Kind,
    /// One for all tries of a caller.
    pub nonce: String,
    /// Lines that each of its steps prints.
    pub lines: u64,
    /// Status and body, or why there is no answer.
    pub answer: Result<(u16, String), String>,
    /// How long it took.
    pub took: Duration,
    /// When it was answered.
    pub at: Instant,
}

impl Try {
    /// Whether it was told that its webhook is stored.
    pub fn accepted(&self) -> bool {
        matches!(self.answer, Ok((200..=299, _)))
    }
}

/// What a step prints: known bytes that no other step prints.
pub fn output(nonce: &str, lines: u64) -> String {
    let mut text: String = (0..lines)
        .map(|line| format!("{nonce} line {line} of {lines} and some more to fill it\n"))
        .collect();
    text.push_str(&format!("{nonce} end\n"));
    text
}

/// Prints [`output`] after telling `told` that it runs; the shell writes each line at once.
fn script(told: &str) -> String {
    format!(
        "{told}i=0; while [ $i -lt $LINES ]; do echo \"$NONCE line $i of $LINES and some more to fill it\"; \
         i=$((i+1)); done; sleep $NAP; echo \"$NONCE end\""
    )
}

/// The pipelines' ids, by kind.
pub struct Pipelines(Vec<(Kind, String)>);

impl Pipelines {
    /// Sets them all. Native steps append `run attempt step nonce` to the file of effects.
    pub async fn set(client: &Client, effects: &Path) -> Self {
        let native = script(&format!(
            "echo \"$RUN $ATTEMPT $STEP $NONCE\" >> {}; ",
            effects.display()
        ));
        let more = json!({ "webhook_secrets": [SECRET] });
        let mut docker = more.clone();
        docker["driver"] = json!("docker");
        let child = program(&step(&native, "a"), "JSON.parse(pipelineContext.args[0])");
        client.set("child", &child, json!({})).await;
        let mut ids = Vec::new();
        for kind in Kind::ALL {
            let (body, more) = match kind {
                Kind::Quick => (RESPOND.to_owned(), &more),
                Kind::Native => (
                    format!("{RESPOND}{}{}", step(&native, "a"), step(&native, "b")),
                    &more,
                ),
                Kind::Docker => (format!("{RESPOND}{}", step(&script(""), "c")), &docker),
                Kind::Storage => (
                    format!("storage.set(told.nonce, {{ run: pipelineContext.runID }});{RESPOND}"),
                    &more,
                ),
                Kind::Parent => (
                    format!(
                        "{RESPOND}await triggerPipeline('child', {{ args: [JSON.stringify({{ ...told, nonce: told.nonce + '-child' }})] }});"
                    ),
                    &more,
                ),
                Kind::Silent => ("console.log(told.nonce);".to_owned(), &more),
            };
            let content = program(&body, "JSON.parse(http.request().body)");
            ids.push((kind, client.set(kind.name(), &content, more.clone()).await));
        }
        Self(ids)
    }

    fn id(&self, kind: Kind) -> &str {
        let found = self.0.iter().find(|(known, _)| *known == kind);
        &found.expect("every kind is set").1
    }
}

const RESPOND: &str = "http.respond({ status: 201, body: JSON.stringify({ run: pipelineContext.runID, \
    attempt: pipelineContext.attempt, nonce: told.nonce }) });";

fn program(body: &str, told: &str) -> String {
    format!("export default async () => {{ const told = {told}; {body} }};")
}

fn step(script: &str, end: &str) -> String {
    let script = json!(script);
    format!(
        "{{ const nonce = told.nonce + '-{end}';
           await runtime.run({{ name: nonce, image: 'busybox', failOnError: true,
             command: {{ path: 'sh', args: ['-c', {script}] }},
             env: {{ RUN: pipelineContext.runID, ATTEMPT: String(pipelineContext.attempt), STEP: '{end}', NONCE: nonce,
               LINES: String(told.lines), NAP: told.nap }} }}); }}"
    )
}

/// How many webhooks, and over which time.
pub struct Pressure {
    /// Deliveries; each caller repeats its own until it is accepted.
    pub deliveries: usize,
    /// The last one begins before this.
    pub span: Duration,
    /// For kinds, sizes and servers.
    pub seed: u64,
}

/// Calls until every delivery was accepted; all answers.
pub async fn call(
    clients: Vec<Client>,
    pipelines: Arc<Pipelines>,
    pressure: &Pressure,
) -> Vec<Try> {
    let mut dice = Dice::new(pressure.seed);
    let began = Instant::now();
    let tries: Arc<Mutex<Vec<Try>>> = Arc::default();
    let mut callers = JoinSet::new();
    for number in 0..pressure.deliveries {
        let kind = Kind::drawn(&mut dice);
        let delivery = Delivery {
            kind,
            nonce: format!("n{number}"),
            // Mostly a few lines, sometimes more than one chunk of log.
            lines: if dice.below(6) == 0 {
                2500
            } else {
                dice.below(40)
            },
            nap: ["0", "0.2", "0.5", "1"][usize::try_from(dice.below(4)).expect("small")],
            first: usize::try_from(dice.below(clients.len() as u64)).expect("small"),
        };
        let at = pressure
            .span
            .mul_f64(number as f64 / pressure.deliveries as f64);
        let (clients, pipelines, tries) = (clients.clone(), pipelines.clone(), tries.clone());
        callers.spawn(async move {
            tokio::time::sleep_until((began + at).into()).await;
            deliver(delivery, &clients, &pipelines, &tries).await;
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.expect("a caller does not panic");
    }
    let tries = tries.lock().unwrap_or_else(PoisonError::into_inner);
    tries.clone()
}

struct Delivery {
    kind: Kind,
    nonce: String,
    lines: u64,
    nap: &'static str,
    first: usize,
}

/// One caller: it asks one server after the other until it is told that its webhook is stored.
///
/// Another try is another delivery: a caller who got no answer cannot know whether it was stored, so both may run.
async fn deliver(
    delivery: Delivery,
    clients: &[Client],
    pipelines: &Pipelines,
    tries: &Mutex<Vec<Try>>,
) {
    let Delivery {
        kind,
        nonce,
        lines,
        nap,
        first,
    } = delivery;
    for number in 0.. {
        let body = json!({ "nonce": nonce, "try": number, "lines": lines, "nap": nap }).to_string();
        let asked = Instant::now();
        let request = clients[(first + number) % clients.len()]
            .webhook(pipelines.id(kind))
            .header("X-Webhook-Signature", sign(SECRET, body.as_bytes()))
            .timeout(TRY_WITHIN)
            .body(body.clone());
        let answer = async {
            let response = request.send().await?;
            let status = response.status().as_u16();
            Ok::<_, reqwest::Error>((status, response.text().await?))
        }
        .await
        .map_err(|error| error.to_string());
        let done = Try {
            body,
            kind,
            nonce: nonce.clone(),
            lines,
            answer,
            took: asked.elapsed(),
            at: Instant::now(),
        };
        let accepted = done.accepted();
        tries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(done);
        if accepted {
            return;
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// The delivery in a stored body: nonce and lines.
pub fn told(body: &str) -> Option<(String, u64)> {
    let told: Value = serde_json::from_str(body).ok()?;
    Some((told["nonce"].as_str()?.to_owned(), told["lines"].as_u64()?))
}
