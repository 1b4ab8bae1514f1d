//! Jobs that the clock starts: `triggers.schedule`.
//!
//! Each time at which a job is to start names its run, so several servers, or one that was started again, start it
//! once. What was due while no server was there is not made up for.

use super::super::{Runs, StartRun};
use super::program::Program;
use crate::model::derived;
use crate::model::pipeline::Pipeline;
use crate::model::run::{Trigger, TriggerKind};
use crate::store::Result;
use pocketci_pipeline::config::model::Schedule;
use pocketci_pipeline::config::schedule::{Cron, parse_cron, parse_every};
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

/// How long after its time a start is still made: a server may have been busy.
const LATE: Duration = Duration::from_secs(50);

impl Runs {
    /// Starts what is due now, and says when to look again; `None` if the clock starts none of its jobs.
    pub(super) async fn start_by_clock(
        &self,
        pipeline: &Arc<Pipeline>,
        program: &Program,
        now: OffsetDateTime,
    ) -> Result<Option<Duration>> {
        let mut next: Option<Duration> = None;
        for job in &program.config.jobs {
            let schedule = job.triggers.as_ref().and_then(|t| t.schedule.as_ref());
            let Some(schedule) = schedule else {
                continue;
            };
            let Some((due, pause)) = look(schedule, pipeline.created_at, now) else {
                continue;
            };
            next = Some(next.map_or(pause, |next| next.min(pause)));
            if let Some(at) = due.filter(|at| now - *at < LATE) {
                self.start_job_at(pipeline, &job.name, at).await?;
            }
        }
        Ok(next)
    }

    async fn start_job_at(
        &self,
        pipeline: &Arc<Pipeline>,
        job: &str,
        at: OffsetDateTime,
    ) -> Result<()> {
        let id = derived::run_id(at, &[b"schedule", &pipeline.id.to_vec(), job.as_bytes()]);
        if self.store().run(id).await?.is_some() {
            return Ok(());
        }
        let trigger = Trigger {
            jobs: vec![job.to_owned()],
            ..Trigger::new(TriggerKind::Schedule)
        };
        let start = StartRun {
            id: Some(id),
            ..StartRun::new(pipeline.clone(), trigger)
        };
        // Changed this very moment, or too much is queued: the next look comes before it is too late.
        self.start(start).await?;
        Ok(())
    }
}

/// The time at which it was due last, if it was lately, and how long until it may be due next; `None` for a schedule
/// that cannot be read (it was checked when the pipeline was set).
fn look(
    schedule: &Schedule,
    since: OffsetDateTime,
    now: OffsetDateTime,
) -> Option<(Option<OffsetDateTime>, Duration)> {
    if !schedule.every.is_empty() {
        return Some(period(parse_every(&schedule.every).ok()?, since, now));
    }
    match parse_cron(&schedule.cron).ok()? {
        Cron::Every(nanos) => Some(period(nanos, since, now)),
        Cron::Fields(fields) => {
            let minute = now.replace_second(0).ok()?.replace_nanosecond(0).ok()?;
            let matches = fields.matches(
                minute.minute(),
                minute.hour(),
                minute.day(),
                minute.month().into(),
                minute.weekday().number_days_from_sunday(),
            );
            let next = minute + Duration::from_secs(60) - now;
            Some((matches.then_some(minute), next.unsigned_abs()))
        }
    }
}

/// Every so many nanoseconds since the pipeline was made, the first time after one of them.
fn period(
    nanos: i64,
    since: OffsetDateTime,
    now: OffsetDateTime,
) -> (Option<OffsetDateTime>, Duration) {
    let nanos = i128::from(nanos.max(1));
    let gone = (now - since).whole_nanoseconds().max(0);
    let into = gone % nanos;
    let wait = |nanos: i128| Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
    let due = (gone >= nanos).then(|| now - wait(into));
    (due, wait(nanos - into))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn every(text: &str) -> Schedule {
        Schedule {
            every: text.into(),
            ..Schedule::default()
        }
    }

    #[test]
    fn a_period_begins_when_the_pipeline_was_made() {
        let made = datetime!(2026-01-01 00:00:30 UTC);
        let at = |seconds: u64| made + Duration::from_secs(seconds);
        let seen = |seconds: u64| look(&every("1m"), made, at(seconds)).unwrap();
        assert_eq!(seen(59), (None, Duration::from_secs(1)));
        assert_eq!(seen(60), (Some(at(60)), Duration::from_secs(60)));
        assert_eq!(seen(125), (Some(at(120)), Duration::from_secs(55)));
    }

    #[test]
    fn a_cron_time_is_a_minute() {
        let cron = Schedule {
            cron: "30 4 * * *".into(),
            ..Schedule::default()
        };
        let made = datetime!(2026-01-01 00:00 UTC);
        let seen = |now| look(&cron, made, now).unwrap();
        let due = datetime!(2026-01-02 04:30 UTC);
        assert_eq!(
            seen(due + Duration::from_secs(20)),
            (Some(due), Duration::from_secs(40))
        );
        assert_eq!(seen(datetime!(2026-01-02 04:31:00 UTC)).0, None);
    }
}
