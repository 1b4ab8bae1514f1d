//! Old runs, made directly in the database: how much slower does the system get with a past?

/// Adds finished runs of the pipeline that exists, each with receipt, job, reply and three events.
pub async fn add_runs(url: &str, count: i64) -> anyhow::Result<()> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let sql = format!(
        "CREATE TEMP TABLE past AS SELECT gen_random_uuid() AS run, gen_random_uuid() AS job, gen_random_uuid() AS receipt,
             p.id AS pipeline, p.revision_id AS revision, clock_timestamp() - g * interval '1 second' AS at
           FROM generate_series(1, {count}) g, (SELECT id, revision_id FROM pipelines ORDER BY name LIMIT 1) p;
         INSERT INTO receipts SELECT receipt, pipeline, 'POST', '/x', '[]', repeat('x', 900)::bytea, 900,
             sha256('x'::bytea), '', 'github', 'push', 'accepted', '', at, run FROM past;
         INSERT INTO runs SELECT run, pipeline, revision, 'finished', 'succeeded', '', '', 'webhook',
             '{{\"kind\":\"webhook\"}}', receipt, true, true, 3, NULL, at, at, at FROM past;
         INSERT INTO jobs SELECT job, run, 'pipeline', 'finished', 'succeeded', '', '', 1, 0, gen_random_uuid(), NULL,
             NULL, '{{}}', NULL, 3, 0, at, at, at FROM past;
         INSERT INTO replies SELECT run, 'pipeline', 200, '[]', 'ok', at FROM past;
         INSERT INTO run_events SELECT run, s, at, job, 1, '{{\"event\":\"replied\",\"status\":200}}', NULL, NULL, NULL, NULL
             FROM past, generate_series(1, 3) s;
         DROP TABLE past; ANALYZE;"
    );
    client.batch_execute(&sql).await?;
    Ok(())
}
