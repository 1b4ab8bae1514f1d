//! Between rows and the model: column lists, and how each type is written and read.

use crate::model::body::BodyId;
use crate::model::pipeline::{ContentType, Labels, Pipeline, WebhookSecret};
use crate::model::receipt::{BodyPlace, Receipt, Verdict};
use crate::model::run::{
    BuildNumber, CancelReason, Cancelled, End, Event, EventBody, Hold, Job, JobState, Lease,
    LogPiece, LogStream, Outcome, QueueTerms, Reply, ReplyBy, Run, RunState,
};
use crate::model::{
    AgentId, EndpointId, JobId, PipelineId, ReceiptId, RevisionId, RunId, SessionId,
};
use crate::store::{LogEnd, codec};
use bytes::Bytes;
use pocketci_proto::api::Driver;
use rusqlite::types::{FromSql, Type};
use rusqlite::{Error, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use time::OffsetDateTime;
use uuid::Uuid;

type Result<T> = rusqlite::Result<T>;

/// In the order of [`run`].
pub(super) const RUN: &str = "r.id, r.pipeline_id, r.revision_id, r.state, r.outcome, r.reason, \
    r.message, r.trigger, r.receipt_id, r.wants_reply, r.replied, r.event_seq, r.cancel_actor, \
    r.created_at, r.started_at, r.finished_at, r.actor, r.cancel_reason, r.group_key";

/// In the order of [`job`].
pub(super) const JOB: &str = "j.id, j.run_id, j.name, j.state, j.outcome, j.reason, j.message, \
    j.attempt, j.lost, j.agent_id, j.session_id, j.lease_until, j.labels, j.driver, j.report_seq, \
    j.log_seq, j.queued_at, j.started_at, j.finished_at, j.actor, j.priority, j.queue_timeout_ms, \
    j.attempts, j.hold, j.queue_until, j.number, j.rerun, j.rerun_of";

/// In the order of [`pipeline`]; `v` is the newest revision.
pub(super) const PIPELINE: &str = "p.id, p.name, p.version, v.id, p.revision, v.content_type, \
    p.driver, p.labels, p.webhook_secrets, p.paused, p.created_at, p.updated_at, p.settings, p.paused_by";

/// In the order of [`receipt`].
pub(super) const RECEIPT: &str = "c.id, c.pipeline_id, c.method, c.url, c.headers, c.body, \
    c.body_bytes, c.body_sha256, c.remote_addr, c.provider, c.event_type, c.verdict, c.reason, \
    c.received_at, c.run_id, c.endpoint_id, c.event_key, c.verified, c.secret_id, c.delivery_id, \
    c.attempt, c.reply_status, c.reply_summary, c.duration_us, c.redelivery_of, c.replay_of, \
    c.files, c.form, c.body_id, c.body_place";

/// In the order of [`event`].
pub(super) const EVENT: &str =
    "seq, at, job_id, attempt, fact, step, stream, offset, bytes, encoding, size";

/// In the order of [`reply`].
pub(super) const REPLY: &str = "by, status, headers, body";

/// The store's clock, as exact as it is stored.
pub(super) fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    let beyond = now.nanosecond() % 1_000;
    now - time::Duration::nanoseconds(i64::from(beyond))
}

/// Microseconds since 1970.
pub(super) fn micros(at: OffsetDateTime) -> i64 {
    // The calendar of `time` ends at year 9999, far inside of 64 bits of microseconds.
    (at.unix_timestamp_nanos() / 1_000) as i64
}

/// See [`micros`].
pub(super) fn micros_opt(at: Option<OffsetDateTime>) -> Option<i64> {
    at.map(micros)
}

/// The 16 bytes of an id that may be absent.
pub(super) fn key(id: Option<Uuid>) -> Option<[u8; 16]> {
    id.map(Uuid::into_bytes)
}

/// The word of a driver, empty for none.
pub(super) fn driver_word(driver: Option<Driver>) -> &'static str {
    driver.map_or("", Driver::as_str)
}

/// JSON text.
pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::ToSqlConversionFailure(Box::new(error)))
}

/// Header lines whose values are bytes: each byte becomes the character with its number.
pub(super) fn header_text(headers: &[(String, Vec<u8>)]) -> Result<String> {
    let lines: Vec<(&str, String)> = headers
        .iter()
        .map(|(name, value)| {
            (
                name.as_str(),
                value.iter().copied().map(char::from).collect(),
            )
        })
        .collect();
    json(&lines)
}

/// Secrets as JSON.
pub(super) fn secret_text(secrets: &[WebhookSecret]) -> Result<String> {
    let words: Vec<String> = secrets
        .iter()
        .map(|secret| hex::encode(secret.expose()))
        .collect();
    json(&words)
}

/// The stored text is none that this program writes.
#[derive(Debug, thiserror::Error)]
#[error("a stored value has an unknown form")]
struct Unknown;

/// Takes the columns of a row one after the other.
pub(super) struct Columns<'a, 'row> {
    row: &'a Row<'row>,
    at: usize,
}

impl<'a, 'row> Columns<'a, 'row> {
    pub(super) fn of(row: &'a Row<'row>) -> Self {
        Self { row, at: 0 }
    }

    pub(super) fn take<T: FromSql>(&mut self) -> Result<T> {
        self.at += 1;
        self.row.get(self.at - 1)
    }

    pub(super) fn unknown(&self) -> Error {
        Error::FromSqlConversionFailure(self.at - 1, Type::Text, Box::new(Unknown))
    }

    pub(super) fn id<T>(&mut self, wrap: fn(Uuid) -> T) -> Result<T> {
        Ok(wrap(Uuid::from_bytes(self.take()?)))
    }

    pub(super) fn id_opt<T>(&mut self, wrap: fn(Uuid) -> T) -> Result<Option<T>> {
        let bytes: Option<[u8; 16]> = self.take()?;
        Ok(bytes.map(|bytes| wrap(Uuid::from_bytes(bytes))))
    }

    pub(super) fn time(&mut self) -> Result<OffsetDateTime> {
        let micros: i64 = self.take()?;
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000)
            .map_err(|_| self.unknown())
    }

    pub(super) fn time_opt(&mut self) -> Result<Option<OffsetDateTime>> {
        let micros: Option<i64> = self.take()?;
        if micros.is_none() {
            return Ok(None);
        }
        self.at -= 1;
        self.time().map(Some)
    }

    pub(super) fn word<T>(&mut self, parse: fn(&str) -> Option<T>) -> Result<T> {
        self.at += 1;
        let word = self.row.get_ref(self.at - 1)?.as_str()?;
        parse(word).ok_or_else(|| self.unknown())
    }

    fn word_opt<T>(&mut self, parse: fn(&str) -> Option<T>) -> Result<Option<T>> {
        let word: Option<String> = self.take()?;
        match word {
            Some(word) => parse(&word).map(Some).ok_or_else(|| self.unknown()),
            None => Ok(None),
        }
    }

    /// Who caused an end; the column is read in any case.
    fn actor(&mut self, end: Option<&mut End>) -> Result<()> {
        let actor: Option<String> = self.take()?;
        if let Some(end) = end {
            end.actor = actor.unwrap_or_default();
        }
        Ok(())
    }

    pub(super) fn driver(&mut self) -> Result<Option<Driver>> {
        self.word(|word| match word {
            "" => Some(None),
            word => Driver::parse(word).map(Some),
        })
    }

    pub(super) fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        self.at += 1;
        let text = self.row.get_ref(self.at - 1)?.as_str()?;
        serde_json::from_str(text).map_err(|_| self.unknown())
    }

    pub(super) fn json_opt<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let text: Option<String> = self.take()?;
        match text {
            Some(text) => serde_json::from_str(&text)
                .map(Some)
                .map_err(|_| self.unknown()),
            None => Ok(None),
        }
    }

    fn bytes(&mut self) -> Result<Bytes> {
        Ok(Bytes::from(self.take::<Vec<u8>>()?))
    }

    /// Outcome, reason, message.
    fn end(&mut self) -> Result<Option<End>> {
        let outcome: Option<String> = self.take()?;
        let (reason, message): (Option<String>, Option<String>) = (self.take()?, self.take()?);
        let Some(outcome) = outcome else {
            return Ok(None);
        };
        Ok(Some(End {
            outcome: Outcome::parse(&outcome).ok_or_else(|| self.unknown())?,
            reason: reason.unwrap_or_default(),
            actor: String::new(),
            message: message.unwrap_or_default(),
        }))
    }
}

/// Reads [`RUN`].
pub(super) fn run(columns: &mut Columns) -> Result<Run> {
    let mut run = Run {
        id: columns.id(RunId)?,
        pipeline_id: columns.id(PipelineId)?,
        revision_id: columns.id(RevisionId)?,
        state: columns.word(RunState::parse)?,
        end: columns.end()?,
        trigger: columns.json()?,
        receipt_id: columns.id_opt(ReceiptId)?,
        wants_reply: columns.take()?,
        replied: columns.take()?,
        event_seq: columns.take()?,
        cancel: None,
        group: None,
        created_at: OffsetDateTime::UNIX_EPOCH,
        started_at: None,
        finished_at: None,
    };
    let cancel_actor: Option<String> = columns.take()?;
    run.created_at = columns.time()?;
    run.started_at = columns.time_opt()?;
    run.finished_at = columns.time_opt()?;
    columns.actor(run.end.as_mut())?;
    let reason = columns.word_opt(CancelReason::parse)?;
    run.cancel = cancel_actor
        .zip(reason)
        .map(|(actor, reason)| Cancelled { actor, reason });
    run.group = columns.take()?;
    Ok(run)
}

/// Reads [`JOB`].
pub(super) fn job(columns: &mut Columns) -> Result<Job> {
    let mut job = Job {
        id: columns.id(JobId)?,
        run_id: columns.id(RunId)?,
        name: columns.take()?,
        build: None,
        state: columns.word(JobState::parse)?,
        end: columns.end()?,
        attempt: columns.take()?,
        lost: columns.take()?,
        agent_id: columns.id_opt(AgentId)?,
        lease: None,
        labels: Labels::new(),
        driver: None,
        terms: QueueTerms::default(),
        hold: None,
        queue_until: None,
        report_seq: 0,
        log_seq: 0,
        queued_at: OffsetDateTime::UNIX_EPOCH,
        started_at: None,
        finished_at: None,
    };
    let session_id = columns.id_opt(SessionId)?;
    let until = columns.time_opt()?;
    if let (Some(agent_id), Some(session_id), Some(until)) = (job.agent_id, session_id, until) {
        job.lease = Some(Lease {
            agent_id,
            session_id,
            until,
        });
    }
    job.labels = columns.json()?;
    job.driver = columns.driver()?;
    job.report_seq = columns.take()?;
    job.log_seq = columns.take()?;
    job.queued_at = columns.time()?;
    job.started_at = columns.time_opt()?;
    job.finished_at = columns.time_opt()?;
    columns.actor(job.end.as_mut())?;
    job.terms = QueueTerms {
        priority: columns.take()?,
        timeout: columns
            .take::<Option<i64>>()?
            .map(|millis| Duration::from_millis(millis.unsigned_abs())),
        attempts: columns.take()?,
    };
    job.hold = columns.word_opt(Hold::parse)?;
    job.queue_until = columns.time_opt()?;
    let (number, rerun): (Option<i32>, i32) = (columns.take()?, columns.take()?);
    let rerun_of = columns.id_opt(JobId)?;
    job.build = number.map(|number| BuildNumber {
        number,
        rerun,
        rerun_of,
    });
    Ok(job)
}

/// Reads [`PIPELINE`].
pub(super) fn pipeline(columns: &mut Columns) -> Result<Pipeline> {
    Ok(Pipeline {
        id: columns.id(PipelineId)?,
        name: columns.take()?,
        version: columns.take()?,
        revision_id: columns.id(RevisionId)?,
        revision: columns.take()?,
        content_type: columns.word(ContentType::parse)?,
        driver: columns.driver()?,
        labels: columns.json()?,
        webhook_secrets: secrets(columns)?,
        paused: columns.take()?,
        created_at: columns.time()?,
        updated_at: columns.time()?,
        settings: columns.json()?,
        paused_by: columns.take()?,
    })
}

fn secrets(columns: &mut Columns) -> Result<Vec<WebhookSecret>> {
    let words: Vec<String> = columns.json()?;
    let secret = |word: &String| hex::decode(word).ok().and_then(WebhookSecret::new);
    let secrets: Option<Vec<WebhookSecret>> = words.iter().map(secret).collect();
    secrets.ok_or_else(|| columns.unknown())
}

/// Reads [`RECEIPT`].
pub(super) fn receipt(columns: &mut Columns) -> Result<Receipt> {
    // In the order of the columns, which is not that of the fields.
    Ok(Receipt {
        id: columns.id(ReceiptId)?,
        pipeline_id: columns.id_opt(PipelineId)?,
        method: columns.take()?,
        url: columns.take()?,
        headers: headers(columns)?,
        body: columns.bytes()?,
        body_bytes: columns.take()?,
        body_sha256: columns.take()?,
        remote_addr: columns.take()?,
        provider: columns.take()?,
        event_type: columns.take()?,
        verdict: columns.word(Verdict::parse)?,
        reason: columns.take()?,
        received_at: columns.time()?,
        run_id: columns.id_opt(RunId)?,
        endpoint_id: columns.id_opt(EndpointId)?,
        event_key: columns.take()?,
        verified: columns.take()?,
        secret_id: columns.take()?,
        delivery_id: columns.take()?,
        attempt: columns.take()?,
        answer: codec::answer(columns.take()?, columns.take()?, columns.take()?),
        redelivery_of: columns.id_opt(ReceiptId)?,
        replay_of: columns.id_opt(ReceiptId)?,
        files: columns.json()?,
        form: columns.json()?,
        body_place: {
            let pages = columns.id_opt(BodyId)?;
            let word: String = columns.take()?;
            BodyPlace::parse(&word, pages).ok_or_else(|| columns.unknown())?
        },
    })
}

fn headers(columns: &mut Columns) -> Result<Vec<(String, Vec<u8>)>> {
    let lines: Vec<(String, String)> = columns.json()?;
    lines
        .into_iter()
        .map(|(name, value)| {
            let bytes: Option<Vec<u8>> = value
                .chars()
                .map(|letter| u8::try_from(u32::from(letter)).ok())
                .collect();
            Ok((name, bytes.ok_or_else(|| columns.unknown())?))
        })
        .collect()
}

/// Reads [`EVENT`].
pub(super) fn event(columns: &mut Columns) -> Result<Event> {
    let seq = columns.take()?;
    let at = columns.time()?;
    let job_id = columns.id_opt(JobId)?;
    let attempt = columns.take()?;
    let fact: Option<String> = columns.take()?;
    let body = match fact {
        Some(text) => EventBody::Fact(serde_json::from_str(&text).map_err(|_| columns.unknown())?),
        None => EventBody::Log(LogPiece {
            step: columns.take()?,
            stream: columns.word(LogStream::parse)?,
            offset: columns.take()?,
            data: {
                let bytes = columns.bytes()?;
                let encoding: Option<String> = columns.take()?;
                let size = columns.take()?;
                codec::log_data(encoding.as_deref(), size, bytes).map_err(|_| columns.unknown())?
            },
        }),
    };
    Ok(Event {
        seq,
        at,
        job_id,
        attempt,
        body,
    })
}

/// Reads step, stream and end.
pub(super) fn log_end(columns: &mut Columns) -> Result<LogEnd> {
    Ok(LogEnd {
        step: columns.take()?,
        stream: columns.word(LogStream::parse)?,
        end: columns.take()?,
    })
}

/// Reads [`REPLY`].
pub(super) fn reply(columns: &mut Columns) -> Result<Reply> {
    Ok(Reply {
        by: columns.word(ReplyBy::parse)?,
        status: columns.take()?,
        headers: columns.json()?,
        body: columns.bytes()?,
    })
}
