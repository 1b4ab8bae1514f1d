//! What the database must say when everything has settled: one query for each rule, which finds its offenders.

use tokio_postgres::Client;

/// A rule and the query for rows that break it.
const RULES: &[(&str, &str)] = &[
    (
        "every run is over",
        "SELECT id::text FROM runs WHERE state <> 'finished' OR outcome IS NULL OR finished_at IS NULL",
    ),
    (
        "every job is over, with its run",
        "SELECT j.id::text FROM jobs j LEFT JOIN runs r ON r.id = j.run_id
         WHERE j.state <> 'finished' OR j.outcome IS NULL OR j.finished_at IS NULL OR r.state IS DISTINCT FROM 'finished'",
    ),
    (
        "a job that is over has no lease",
        "SELECT id::text FROM jobs WHERE state = 'finished' AND (lease_until IS NOT NULL OR session_id IS NOT NULL)",
    ),
    (
        "time goes forward",
        "SELECT id::text FROM runs WHERE finished_at < created_at OR started_at < created_at OR finished_at < started_at
         UNION ALL SELECT id::text FROM jobs WHERE finished_at < queued_at OR finished_at < started_at",
    ),
    (
        "every run has a job",
        "SELECT r.id::text FROM runs r WHERE NOT EXISTS (SELECT FROM jobs j WHERE j.run_id = r.id)",
    ),
    (
        "lost attempts are counted, and none is later than the last",
        "SELECT j.id::text FROM jobs j WHERE j.lost <> (SELECT count(*) FROM lost_attempts l WHERE l.job_id = j.id)
            OR EXISTS (SELECT FROM lost_attempts l WHERE l.job_id = j.id AND (l.attempt > j.attempt OR l.attempt < 1))",
    ),
    (
        "an attempt with a result is not lost",
        "SELECT j.id::text FROM jobs j JOIN lost_attempts l ON l.job_id = j.id AND l.attempt = j.attempt
         WHERE j.outcome IN ('succeeded', 'failed', 'skipped')",
    ),
    (
        "what has a result was attempted and accepted",
        "SELECT id::text FROM jobs WHERE outcome IN ('succeeded', 'failed')
            AND (attempt < 1 OR report_seq < 2 OR started_at IS NULL OR agent_id IS NULL)",
    ),
    (
        "an accepted webhook has one run, a run of a webhook one receipt",
        "SELECT q.id::text FROM receipts q LEFT JOIN runs r ON r.receipt_id = q.id AND r.id = q.run_id
            WHERE q.verdict = 'accepted' AND r.id IS NULL
         UNION ALL SELECT r.id::text FROM runs r LEFT JOIN receipts q ON q.id = r.receipt_id AND q.run_id = r.id
            WHERE r.trigger_kind = 'webhook' AND q.id IS NULL
         UNION ALL SELECT run_id::text FROM receipts WHERE run_id IS NOT NULL GROUP BY run_id HAVING count(*) > 1",
    ),
    (
        "a run says that it replied if and only if a reply is stored",
        "SELECT r.id::text FROM runs r LEFT JOIN replies p ON p.run_id = r.id
         WHERE r.replied <> (p.run_id IS NOT NULL)",
    ),
    (
        "a reply belongs to a run of a webhook",
        "SELECT p.run_id::text FROM replies p LEFT JOIN runs r ON r.id = p.run_id
         WHERE r.id IS NULL OR r.trigger_kind <> 'webhook'",
    ),
    (
        "an event is numbered up to its run's last one",
        "SELECT e.run_id::text FROM run_events e LEFT JOIN runs r ON r.id = e.run_id
         WHERE r.id IS NULL OR e.seq < 1 OR e.seq > r.event_seq",
    ),
    (
        "an event names an attempt that was",
        "SELECT e.run_id::text FROM run_events e JOIN jobs j ON j.id = e.job_id
         WHERE e.attempt IS NOT NULL AND (e.attempt > j.attempt OR j.run_id <> e.run_id)",
    ),
];

/// Every broken rule with some of its offenders.
pub async fn broken(database: &Client) -> Vec<String> {
    let mut faults = Vec::new();
    for (rule, sql) in RULES {
        let rows = database
            .query(*sql, &[])
            .await
            .unwrap_or_else(|error| panic!("the rule {rule:?} cannot be asked: {error:?}"));
        if !rows.is_empty() {
            let some: Vec<String> = rows.iter().take(3).map(|row| row.get(0)).collect();
            faults.push(format!(
                "{rule}: broken {} times, for example by {}",
                rows.len(),
                some.join(", ")
            ));
        }
    }
    faults
}

/// How many rules there are.
pub fn count() -> usize {
    RULES.len()
}
