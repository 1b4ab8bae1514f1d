//! What only the SQLite storage promises: one process a file, a refused foreign file, a schema that refuses nonsense.

// A failed expectation of a test is a panic; `unwrap` says so in the fewest words.
#![allow(clippy::unwrap_used)]

use pocketci_server::model::pipeline::{ContentType, PutPipeline};
use pocketci_server::store::sqlite::SqliteStore;
use pocketci_server::store::{PipelineStore as _, Store as _, StoreError};
use rusqlite::Connection;
use std::error::Error as _;
use std::path::PathBuf;
use tempfile::TempDir;

fn place() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("pocketci.db");
    (folder, path)
}

fn put(name: &str) -> PutPipeline {
    PutPipeline {
        name: name.into(),
        content_type: ContentType::Js,
        file_name: "p.js".into(),
        source: "s".into(),
        javascript: "s".into(),
        source_map: String::new(),
        modules: vec![],
        driver: None,
        labels: None,
        webhook_secrets: None,
        settings: None,
        listens: vec![],
    }
}

/// The whole chain of causes, as an operator reads it.
fn words(error: StoreError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

fn refused(path: &std::path::Path) -> StoreError {
    match SqliteStore::open(path) {
        Ok(_) => panic!("the file was opened"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_second_store_on_one_file_is_refused() {
    let (_folder, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let error = words(refused(&path));
    assert!(
        error.contains("another pocketci uses this database"),
        "{error}"
    );
    store.ping().await.unwrap();
    store.close().await;
    SqliteStore::open(&path).unwrap().close().await;
}

#[tokio::test]
async fn a_missing_folder_is_named() {
    let folder = TempDir::new().unwrap();
    let error = words(refused(&folder.path().join("nowhere").join("pocketci.db")));
    assert!(
        error.contains("nowhere") && error.contains("create it"),
        "{error}"
    );
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let (_folder, path) = place();
    SqliteStore::open(&path).unwrap().close().await;
    let connection = Connection::open(&path).unwrap();
    connection
        .execute("INSERT INTO schema_migrations VALUES (999, 0)", [])
        .unwrap();
    drop(connection);
    assert!(matches!(
        refused(&path),
        StoreError::SchemaTooNew { found: 999, .. }
    ));
}

#[tokio::test]
async fn another_programs_database_is_left_alone() {
    let (_folder, path) = place();
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("CREATE TABLE theirs (a)").unwrap();
    drop(connection);
    let error = words(refused(&path));
    assert!(error.contains("another program"), "{error}");
    let connection = Connection::open(&path).unwrap();
    let tables = "SELECT group_concat(name) FROM sqlite_schema";
    let found: String = connection.query_row(tables, [], |row| row.get(0)).unwrap();
    assert_eq!(found, "theirs");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let (_folder, path) = place();
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    assert!(matches!(refused(&path), StoreError::Internal(_)));
}

#[tokio::test]
async fn a_closed_store_answers_with_an_error() {
    let (_folder, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    store.close().await;
    store.close().await;
    let read = store.pipeline_by_name("x").await.map(|_| ());
    let written = store.put_pipeline(put("x")).await.map(|_| ());
    for result in [read, written, store.ping().await] {
        assert!(words(result.unwrap_err()).contains("closed"));
    }
}

#[tokio::test]
async fn calls_before_close_are_still_stored() {
    let (_folder, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let puts = (0..50).map(|number| {
        let store = store.clone();
        tokio::spawn(async move { store.put_pipeline(put(&format!("p{number:02}"))).await })
    });
    let puts: Vec<_> = puts.collect();
    tokio::task::yield_now().await;
    store.close().await;
    let mut answered = 0;
    for put in puts {
        answered += usize::from(put.await.unwrap().is_ok());
    }
    let store = SqliteStore::open(&path).unwrap();
    let stored = store.pipelines(None, 100).await.unwrap().len();
    assert_eq!(stored, answered, "stored is what was answered");
    store.close().await;
}

#[tokio::test]
async fn the_schema_refuses_illegal_states() {
    let (_folder, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    store.put_pipeline(put("x")).await.unwrap();
    store.close().await;
    let db = Connection::open(&path).unwrap();
    db.pragma_update(None, "foreign_keys", true).unwrap();
    let run = |more: &str| {
        format!(
            "INSERT INTO runs (id, pipeline_id, revision_id, trigger, wants_reply, replied, \
             event_seq, created_at, state, outcome, reason, message, finished_at, started_at) \
             SELECT randomblob(16), pipeline_id, id, '{{}}', 0, 0, 0, 0, {more} FROM revisions"
        )
    };
    db.execute(&run("'queued', NULL, NULL, NULL, NULL, NULL"), [])
        .unwrap();
    let job = |more: &str| {
        format!(
            "INSERT INTO jobs (id, run_id, position, name, lost, labels, driver, report_seq, \
             log_seq, queued_at, attempt, state, session_id, lease_until, outcome, reason, message, \
             finished_at) SELECT randomblob(16), id, abs(random()), 'j', 0, '{{}}', '', 0, 0, 0, \
             {more} FROM runs"
        )
    };
    let event = |more: &str| {
        format!(
            "INSERT INTO events (run_id, seq, at, fact, bytes, step, stream, offset) \
             SELECT id, 1, 0, {more} FROM runs"
        )
    };
    let receipt = |pipeline: &str, verdict: &str, place: &str| {
        format!(
            "INSERT INTO receipts (id, pipeline_id, method, url, headers, body, body_bytes, body_sha256, \
             remote_addr, provider, event_type, verdict, reason, received_at, body_place) \
             SELECT randomblob(16), {pipeline}, '', '', '[]', x'', 0, zeroblob(32), '', '', '', \
             {verdict}, '', 0, {place} FROM runs"
        )
    };
    let illegal = [
        run("'finished', NULL, NULL, NULL, 1, 1"),
        run("'finished', 'failed', '', '', NULL, 1"),
        run("'queued', 'failed', '', '', NULL, NULL"),
        run("'running', NULL, NULL, NULL, NULL, NULL"),
        run("'lost', NULL, NULL, NULL, NULL, NULL"),
        job("1, 'assigned', NULL, NULL, NULL, NULL, NULL, NULL"),
        job("1, 'assigned', randomblob(16), 1, NULL, NULL, NULL, NULL"),
        job("1, 'queued', randomblob(16), 1, NULL, NULL, NULL, NULL"),
        job("1, 'finished', NULL, NULL, NULL, NULL, NULL, 1"),
        event("NULL, NULL, NULL, NULL, NULL"),
        event("'{}', x'00', 0, 'stdout', 0"),
        event("NULL, x'00', 0, 'stdin', 0"),
        event("NULL, x'00', NULL, 'stdout', 0"),
        receipt("NULL", "'accepted'", "'inline'"),
        receipt("pipeline_id", "'lost'", "'inline'"),
        receipt("pipeline_id", "'accepted'", "'elsewhere'"),
        "INSERT INTO replies SELECT id, 'pipeline', 100, '[]', x'' FROM runs".into(),
    ];
    for sql in illegal {
        let error = db.execute(&sql, []).unwrap_err();
        assert_eq!(
            error.sqlite_error_code(),
            Some(rusqlite::ErrorCode::ConstraintViolation),
            "{sql}: {error}"
        );
    }
    let legal = [
        receipt("pipeline_id", "'unrouted'", "'none'"),
        job("0, 'queued', NULL, NULL, NULL, NULL, NULL, NULL"),
        event("NULL, x'00', 0, 'stdout', 0"),
        run("'finished', 'failed', '', '', 1, 1"),
    ];
    for sql in legal {
        assert_eq!(db.execute(&sql, []).unwrap(), 1, "{sql}");
    }
    let reopened = "UPDATE runs SET state = 'queued', outcome = NULL, reason = NULL, \
         message = NULL, finished_at = NULL WHERE state = 'finished'";
    assert!(db.execute(reopened, []).is_err(), "the end is the end");
}
