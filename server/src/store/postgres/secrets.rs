//! Secrets (sealed bytes) and the names of the keys they may be sealed with.

use super::super::{Result, SecretStore};
use super::{Failable, PostgresStore, sql_error};
use crate::model::PipelineId;
use crate::model::pipeline::WebhookSecret;
use crate::model::secret::{Scope, SealedSecret, SecretInfo};
use crate::model::vault::KeyId;
use async_trait::async_trait;
use tokio_postgres::Row;
use uuid::Uuid;

fn key(scope: Scope) -> Option<Uuid> {
    scope.map(|id| id.0)
}

fn sealed(row: &Row) -> Failable<SealedSecret> {
    Ok(SealedSecret {
        scope: row.try_get::<_, Option<Uuid>>(0)?.map(PipelineId),
        name: row.try_get(1)?,
        sealed: row.try_get(2)?,
    })
}

#[async_trait]
impl SecretStore for PostgresStore {
    async fn put_secret(&self, secret: SealedSecret) -> Result<Option<bool>> {
        let client = self.client().await?;
        // xmax is 0 for a row that was inserted.
        let sql = "INSERT INTO secrets (pipeline_id, name, sealed, updated_at)
            SELECT $1, $2, $3, clock_timestamp()
            WHERE $1::uuid IS NULL OR EXISTS (SELECT 1 FROM pipelines WHERE id = $1)
            ON CONFLICT (pipeline_id, name) DO UPDATE SET sealed = excluded.sealed, updated_at = excluded.updated_at
            RETURNING xmax = 0";
        let row = client
            .query_opt(sql, &[&key(secret.scope), &secret.name, &secret.sealed])
            .await
            .map_err(sql_error)?;
        row.map(|row| row.try_get(0).map_err(sql_error)).transpose()
    }

    async fn delete_secret(&self, scope: Scope, name: &str) -> Result<bool> {
        let client = self.client().await?;
        let sql = "DELETE FROM secrets WHERE pipeline_id IS NOT DISTINCT FROM $1 AND name = $2";
        let gone = client.execute(sql, &[&key(scope), &name]).await;
        Ok(gone.map_err(sql_error)? > 0)
    }

    async fn secrets(&self, scope: Scope) -> Result<Vec<SecretInfo>> {
        let client = self.client().await?;
        let sql = "SELECT pipeline_id, name, updated_at FROM secrets
            WHERE pipeline_id IS NOT DISTINCT FROM $1 ORDER BY name COLLATE \"C\"";
        let rows = client.query(sql, &[&key(scope)]).await.map_err(sql_error)?;
        let info = |row: &Row| -> Failable<SecretInfo> {
            Ok(SecretInfo {
                scope: row.try_get::<_, Option<Uuid>>(0)?.map(PipelineId),
                name: row.try_get(1)?,
                updated_at: row.try_get(2)?,
            })
        };
        Ok(rows.iter().map(info).collect::<Failable<_>>()?)
    }

    async fn sealed_secrets(
        &self,
        pipeline_id: PipelineId,
        names: &[String],
    ) -> Result<Vec<SealedSecret>> {
        let client = self.client().await?;
        let sql = "SELECT DISTINCT ON (name) pipeline_id, name, sealed FROM secrets
            WHERE (pipeline_id = $1 OR pipeline_id IS NULL) AND name = ANY($2) ORDER BY name, pipeline_id NULLS LAST";
        let rows = client
            .query(sql, &[&pipeline_id.0, &names])
            .await
            .map_err(sql_error)?;
        Ok(rows.iter().map(sealed).collect::<Failable<_>>()?)
    }

    async fn all_sealed_secrets(&self) -> Result<Vec<SealedSecret>> {
        let client = self.client().await?;
        let sql = "SELECT pipeline_id, name, sealed FROM secrets ORDER BY name";
        let rows = client.query(sql, &[]).await.map_err(sql_error)?;
        Ok(rows.iter().map(sealed).collect::<Failable<_>>()?)
    }

    async fn reseal_secret(&self, old: SealedSecret, sealed: Vec<u8>) -> Result<bool> {
        let client = self.client().await?;
        let sql = "UPDATE secrets SET sealed = $4
            WHERE pipeline_id IS NOT DISTINCT FROM $1 AND name = $2 AND sealed = $3";
        let changed = client
            .execute(sql, &[&key(old.scope), &old.name, &old.sealed, &sealed])
            .await;
        Ok(changed.map_err(sql_error)? > 0)
    }

    async fn reseal_webhook_secrets(
        &self,
        id: PipelineId,
        version: i64,
        secrets: Vec<WebhookSecret>,
    ) -> Result<bool> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(sql_error)?;
        let sql = "SELECT 1 FROM pipelines WHERE id = $1 AND version = $2 FOR UPDATE";
        let current = transaction.query_opt(sql, &[&id.0, &version]).await;
        if current.map_err(sql_error)?.is_none() {
            return Ok(false);
        }
        for (position, secret) in (0i32..).zip(&secrets) {
            let sql =
                "UPDATE webhook_secrets SET secret = $3 WHERE pipeline_id = $1 AND position = $2";
            transaction
                .execute(sql, &[&id.0, &position, &secret.expose()])
                .await
                .map_err(sql_error)?;
        }
        transaction.commit().await.map_err(sql_error)?;
        Ok(true)
    }

    async fn secret_keys(&self) -> Result<Vec<KeyId>> {
        let client = self.client().await?;
        let rows = client
            .query("SELECT id FROM secret_keys ORDER BY id", &[])
            .await
            .map_err(sql_error)?;
        // The table holds ids of the right length only.
        let id =
            |row: &Row| Some(KeyId::try_from(row.try_get::<_, &[u8]>(0).ok()?).unwrap_or_default());
        Ok(rows.iter().filter_map(id).collect())
    }

    async fn add_secret_key(&self, id: KeyId) -> Result<()> {
        let client = self.client().await?;
        let sql = "INSERT INTO secret_keys (id) VALUES ($1) ON CONFLICT DO NOTHING";
        client
            .execute(sql, &[&id.as_slice()])
            .await
            .map_err(sql_error)?;
        Ok(())
    }

    async fn keep_only_secret_key(&self, id: KeyId) -> Result<()> {
        let client = self.client().await?;
        client
            .execute("DELETE FROM secret_keys WHERE id <> $1", &[&id.as_slice()])
            .await
            .map_err(sql_error)?;
        Ok(())
    }
}
