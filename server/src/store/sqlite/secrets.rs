//! Secrets (sealed bytes) and the names of the keys they may be sealed with.

use super::SqliteStore;
use super::rows::{Columns, key, micros, now, secret_text};
use crate::model::PipelineId;
use crate::model::pipeline::WebhookSecret;
use crate::model::secret::{Scope, SealedSecret, SecretInfo};
use crate::model::vault::KeyId;
use crate::store::{Result, SecretStore};
use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

/// A scope as it is compared: `NULL` equals nothing.
const SCOPE: &str = "coalesce(pipeline_id, x'')";

fn scope_key(scope: Scope) -> Vec<u8> {
    scope.map(|id| id.0.as_bytes().to_vec()).unwrap_or_default()
}

fn sealed(row: &Row) -> rusqlite::Result<SealedSecret> {
    let mut columns = Columns::of(row);
    Ok(SealedSecret {
        scope: columns.id_opt(PipelineId)?,
        name: columns.take()?,
        sealed: columns.take()?,
    })
}

fn put(connection: &Connection, secret: &SealedSecret) -> Result<Option<bool>> {
    if let Some(id) = secret.scope {
        let mut known = connection.prepare_cached("SELECT 1 FROM pipelines WHERE id = ?1")?;
        if !known.exists([id.0.as_bytes()])? {
            return Ok(None);
        }
    }
    let update =
        format!("UPDATE secrets SET sealed = ?3, updated_at = ?4 WHERE {SCOPE} = ?1 AND name = ?2");
    let updated = connection.prepare_cached(&update)?.execute(params![
        scope_key(secret.scope),
        secret.name,
        secret.sealed,
        micros(now())
    ])?;
    if updated == 0 {
        let insert =
            "INSERT INTO secrets (pipeline_id, name, sealed, updated_at) VALUES (?1, ?2, ?3, ?4)";
        connection.prepare_cached(insert)?.execute(params![
            key(secret.scope.map(|id| id.0)),
            secret.name,
            secret.sealed,
            micros(now())
        ])?;
    }
    Ok(Some(updated == 0))
}

fn of_names(
    connection: &Connection,
    id: PipelineId,
    names: &[String],
) -> Result<Vec<SealedSecret>> {
    let sql = format!(
        "SELECT pipeline_id, name, sealed FROM secrets WHERE {SCOPE} IN (?1, x'') AND name = ?2 \
         ORDER BY pipeline_id IS NULL LIMIT 1"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = Vec::new();
    for name in names {
        let rows = statement.query_map(params![scope_key(Some(id)), name], sealed)?;
        for row in rows {
            found.push(row?);
        }
    }
    Ok(found)
}

fn reseal(connection: &Connection, old: &SealedSecret, bytes: &[u8]) -> Result<bool> {
    let sql =
        format!("UPDATE secrets SET sealed = ?4 WHERE {SCOPE} = ?1 AND name = ?2 AND sealed = ?3");
    let changed = connection.prepare_cached(&sql)?.execute(params![
        scope_key(old.scope),
        old.name,
        old.sealed,
        bytes
    ])?;
    Ok(changed > 0)
}

#[async_trait]
impl SecretStore for SqliteStore {
    async fn put_secret(&self, secret: SealedSecret) -> Result<Option<bool>> {
        self.writer
            .call(move |connection, _| put(connection, &secret))
            .await
    }

    async fn delete_secret(&self, scope: Scope, name: &str) -> Result<bool> {
        let name = name.to_owned();
        self.writer
            .call(move |connection, _| {
                let sql = format!("DELETE FROM secrets WHERE {SCOPE} = ?1 AND name = ?2");
                let gone = connection
                    .prepare_cached(&sql)?
                    .execute(params![scope_key(scope), name])?;
                Ok(gone > 0)
            })
            .await
    }

    async fn secrets(&self, scope: Scope) -> Result<Vec<SecretInfo>> {
        self.readers
            .read(move |connection| {
                let sql = format!("SELECT pipeline_id, name, updated_at FROM secrets WHERE {SCOPE} = ?1 ORDER BY name");
                let mut statement = connection.prepare_cached(&sql)?;
                let found = statement.query_map([scope_key(scope)], |row| {
                    let mut columns = Columns::of(row);
                    Ok(SecretInfo {
                        scope: columns.id_opt(PipelineId)?,
                        name: columns.take()?,
                        updated_at: columns.time()?,
                    })
                })?;
                Ok(found.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    async fn sealed_secrets(
        &self,
        pipeline_id: PipelineId,
        names: &[String],
    ) -> Result<Vec<SealedSecret>> {
        let names = names.to_vec();
        self.readers
            .read(move |connection| of_names(connection, pipeline_id, &names))
            .await
    }

    async fn all_sealed_secrets(&self) -> Result<Vec<SealedSecret>> {
        self.readers
            .read(|connection| {
                let sql = "SELECT pipeline_id, name, sealed FROM secrets ORDER BY name";
                let mut statement = connection.prepare_cached(sql)?;
                let found = statement.query_map([], sealed)?;
                Ok(found.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    async fn reseal_secret(&self, old: SealedSecret, sealed: Vec<u8>) -> Result<bool> {
        self.writer
            .call(move |connection, _| reseal(connection, &old, &sealed))
            .await
    }

    async fn reseal_webhook_secrets(
        &self,
        id: PipelineId,
        version: i64,
        secrets: Vec<WebhookSecret>,
    ) -> Result<bool> {
        self.writer
            .call(move |connection, _| {
                let sql =
                    "UPDATE pipelines SET webhook_secrets = ?3 WHERE id = ?1 AND version = ?2";
                let changed = connection.prepare_cached(sql)?.execute(params![
                    id.0.as_bytes(),
                    version,
                    secret_text(&secrets)?
                ])?;
                Ok(changed > 0)
            })
            .await
    }

    async fn secret_keys(&self) -> Result<Vec<KeyId>> {
        self.readers
            .read(|connection| {
                let mut statement =
                    connection.prepare_cached("SELECT id FROM secret_keys ORDER BY id")?;
                let found = statement.query_map([], |row| row.get(0))?;
                Ok(found.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    async fn add_secret_key(&self, id: KeyId) -> Result<()> {
        self.writer
            .call(move |connection, _| {
                let sql =
                    "INSERT INTO secret_keys (id, added_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
                connection
                    .prepare_cached(sql)?
                    .execute(params![id, micros(now())])?;
                Ok(())
            })
            .await
    }

    async fn keep_only_secret_key(&self, id: KeyId) -> Result<()> {
        self.writer
            .call(move |connection, _| {
                let sql = "DELETE FROM secret_keys WHERE id <> ?1";
                connection.prepare_cached(sql)?.execute(params![id])?;
                Ok(())
            })
            .await
    }
}
