//! The choice of inputs over a long history: the same answer, in a time that is printed.

use crate::home::Home;
use crate::version_story::*;
use pocketci_server::model::selection::{InputConfig, Wish};
use std::time::Instant;
use uuid::Uuid;

/// Builds of each job.
const BUILDS: usize = 5_000;

/// Versions, and successful builds of `a`, `b` and `c` that used one each beside a tool that never changes. `late` has
/// succeeded with the first version only.
fn sqlite(pipeline: Uuid, revision: Uuid) -> String {
    let (id, revision) = (pipeline.simple(), revision.simple());
    let count = format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {BUILDS})"
    );
    let hash = "CAST(printf('%032d', i) AS BLOB)";
    let job = "CAST(printf('%-5s%011d', j.name, i) AS BLOB)";
    let jobs = "(SELECT 'a' AS name, 0 AS at UNION ALL SELECT 'b', 1 UNION ALL SELECT 'c', 2 UNION ALL SELECT 'late', 3) j";
    format!(
        "INSERT INTO runs (id, pipeline_id, revision_id, state, trigger, wants_reply, replied, event_seq, created_at)
            VALUES (x'{id}', x'{id}', x'{revision}', 'queued', '{{\"kind\":\"manual\"}}', 0, 0, 0, 0);
         {count} INSERT INTO resource_versions (pipeline_id, resource, scope, hash, version, check_order, first_seen_at)
            SELECT x'{id}', 'x', r.scope, {hash}, printf('{{\"ref\":\"%d\"}}', i), i, 0 FROM n
            JOIN resources r ON r.name = 'x' WHERE true;
         INSERT INTO resource_versions (pipeline_id, resource, scope, hash, version, check_order, first_seen_at)
            SELECT x'{id}', 'tool', scope, CAST(printf('%032d', 0) AS BLOB), '{{\"ref\":\"t\"}}', 1, 0
            FROM resources WHERE name = 'tool';
         {count} INSERT INTO jobs (id, run_id, position, name, state, outcome, reason, message, attempt, lost, labels,
                driver, report_seq, log_seq, queued_at, finished_at, pipeline_id, number)
            SELECT {job}, x'{id}', j.at * {BUILDS} + i, j.name, 'finished', 'succeeded', '', '', 1, 0, '{{}}', '', 0, 0,
                0, 0, x'{id}', i FROM n, {jobs} WHERE j.name <> 'late' OR i = 1;
         {count} INSERT INTO build_inputs (job_id, pipeline_id, job_name, name, resource, hash, version, first_occurrence)
            SELECT {job}, x'{id}', j.name, 'x', 'x', {hash}, '{{}}', 1 FROM n, {jobs} WHERE j.name <> 'late' OR i = 1;
         {count} INSERT INTO build_inputs (job_id, pipeline_id, job_name, name, resource, hash, version, first_occurrence)
            SELECT {job}, x'{id}', j.name, 'tool', 'tool', CAST(printf('%032d', 0) AS BLOB), '{{}}', 0 FROM n, {jobs}
            WHERE j.name <> 'late' OR i = 1;"
    )
}

/// The same in PostgreSQL.
fn postgres(id: Uuid) -> String {
    let count = format!("generate_series(1, {BUILDS}) i");
    let hash = "convert_to(lpad(i::text, 32, '0'), 'UTF8')";
    let tool = "convert_to(repeat('0', 32), 'UTF8')";
    let job = "md5(j.name || i)::uuid";
    let jobs = "unnest(ARRAY['a', 'b', 'c', 'late']) AS j (name)";
    format!(
        "INSERT INTO resource_versions (pipeline_id, resource, scope, hash, version, check_order, first_seen_at)
            SELECT '{id}', 'x', r.scope, {hash}, '{{\"ref\":\"' || i || '\"}}', i, now() FROM {count}
            JOIN resources r ON r.name = 'x';
         INSERT INTO resource_versions (pipeline_id, resource, scope, hash, version, check_order, first_seen_at)
            SELECT '{id}', 'tool', scope, {tool}, '{{\"ref\":\"t\"}}', 1, now() FROM resources WHERE name = 'tool';
         INSERT INTO jobs (id, run_id, name, state, outcome, attempt, lost, labels, report_seq, log_seq, queued_at,
                finished_at, pipeline_id, number)
            SELECT {job}, '{id}', j.name, 'finished', 'succeeded', 1, 0, '{{}}', 0, 0, now(), now(), '{id}', i
            FROM {count}, {jobs} WHERE j.name <> 'late' OR i = 1;
         INSERT INTO build_inputs (job_id, pipeline_id, job_name, name, resource, hash, version, first_occurrence)
            SELECT {job}, '{id}', j.name, 'x', 'x', {hash}, '{{}}', true FROM {count}, {jobs}
            WHERE j.name <> 'late' OR i = 1;
         INSERT INTO build_inputs (job_id, pipeline_id, job_name, name, resource, hash, version, first_occurrence)
            SELECT {job}, '{id}', j.name, 'tool', 'tool', {tool}, '{{}}', false FROM {count}, {jobs}
            WHERE j.name <> 'late' OR i = 1;"
    )
}

pub async fn a_long_history_is_searched_quickly(home: Home) {
    let store = home.open().await;
    let yard = Yard::new(&store, &["tool", "x"]).await;
    let (id, revision) = (yard.id().0, yard.pipeline.revision_id.0);
    store.close().await;
    let seeds = (sqlite(id, revision), postgres(id));
    home.prepare(&[&seeds.0], &[&seeds.1]).await;
    let store = home.open().await;
    let yard = Yard {
        store: store.clone(),
        ..yard
    };
    let newest = BUILDS.to_string();
    let every = |jobs| InputConfig {
        version: Wish::Every,
        ..passed("x", jobs)
    };
    for (what, inputs, expected) in [
        (
            "the newest fits",
            vec![passed("x", &["a", "b", "c"])],
            newest.as_str(),
        ),
        (
            "two inputs, the newest fits",
            vec![passed("x", &["a", "b", "c"]), passed("tool", &["a", "b"])],
            &newest,
        ),
        ("every, never used", vec![every(&["a", "b", "c"])], &newest),
        (
            "only the oldest fits",
            vec![passed("x", &["a", "b", "late"])],
            "1",
        ),
        (
            "two inputs, only the oldest fits",
            vec![
                passed("x", &["a", "b", "late"]),
                passed("tool", &["a", "late"]),
            ],
            "1",
        ),
        ("without passed jobs", vec![input("x")], &newest),
    ] {
        // The first time fills caches: of pages, of prepared statements.
        for round in ["first", "again"] {
            let started = Instant::now();
            let selected = yard.select("ship", &inputs).await;
            println!("{what}, {round}: {:?}", started.elapsed());
            assert_eq!(selected.inputs["x"].version["ref"], expected, "{what}");
        }
    }
    store.close().await;
}
