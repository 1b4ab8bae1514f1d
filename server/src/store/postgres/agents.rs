//! Agents and their credentials.

use super::super::{AgentStore, Registered, Result, codec};
use super::{Failable, PostgresStore, rows, sql_error};
use crate::model::agent::{Agent, AgentToken, Registration};
use crate::model::{AgentId, SessionId, TokenId};
use async_trait::async_trait;
use std::time::Duration;
use tokio_postgres::Row;
use uuid::Uuid;

#[async_trait]
impl AgentStore for PostgresStore {
    async fn create_token(&self, name: &str, hash: [u8; 32]) -> Result<AgentToken> {
        let client = self.client().await?;
        let sql = "INSERT INTO agent_tokens (id, name, token_hash, created_at) VALUES ($1, $2, $3, clock_timestamp())
            ON CONFLICT (token_hash) DO NOTHING";
        client
            .execute(sql, &[&TokenId::new().0, &name, &hash.as_slice()])
            .await
            .map_err(sql_error)?;
        let sql = "SELECT * FROM agent_tokens WHERE token_hash = $1";
        let row = client
            .query_one(sql, &[&hash.as_slice()])
            .await
            .map_err(sql_error)?;
        Ok(token(&row)?)
    }

    async fn token_by_hash(&self, hash: [u8; 32]) -> Result<Option<TokenId>> {
        let client = self.client().await?;
        let sql = "SELECT id FROM agent_tokens WHERE token_hash = $1 AND revoked_at IS NULL";
        let row = client
            .query_opt(sql, &[&hash.as_slice()])
            .await
            .map_err(sql_error)?;
        Ok(row.map(|row| TokenId(row.get(0))))
    }

    async fn tokens(&self) -> Result<Vec<AgentToken>> {
        let client = self.client().await?;
        let sql = "SELECT * FROM agent_tokens WHERE revoked_at IS NULL ORDER BY id";
        let found = client.query(sql, &[]).await.map_err(sql_error)?;
        Ok(rows::all(&found, token)?)
    }

    async fn revoke_token(&self, id: TokenId) -> Result<bool> {
        let client = self.client().await?;
        let sql = "UPDATE agent_tokens SET revoked_at = clock_timestamp() WHERE id = $1 AND revoked_at IS NULL";
        Ok(client.execute(sql, &[&id.0]).await.map_err(sql_error)? == 1)
    }

    async fn register(&self, new: Registration, fresh: Duration) -> Result<Registered> {
        let client = self.client().await?;
        let fresh_ms = i64::try_from(fresh.as_millis()).unwrap_or(i64::MAX);
        // One statement decides and writes: a namesake that is connected, fresh and another process keeps its row.
        let sql = "INSERT INTO agents (id, name, token_id, boot_id, session_id, connected, slots, labels, drivers,
                version, seen_at)
            VALUES ($1, $2, $3, $4, $5, true, $6, $7, $8, $9, clock_timestamp())
            ON CONFLICT (name) DO UPDATE SET token_id = $3, boot_id = $4, session_id = $5, connected = true, slots = $6,
                labels = $7, drivers = $8, version = $9, seen_at = clock_timestamp()
            WHERE NOT agents.connected OR agents.boot_id = $4
                OR agents.seen_at < clock_timestamp() - $10::bigint * interval '1 millisecond'
                OR ($11 AND agents.token_id = $3)
            RETURNING id";
        let row = client
            .query_opt(
                sql,
                &[
                    &AgentId::new().0,
                    &new.name,
                    &new.token_id.0,
                    &new.boot_id.0,
                    &new.session_id.0,
                    &new.slots,
                    &codec::labels(&new.labels),
                    &codec::drivers(&new.drivers),
                    &new.version,
                    &fresh_ms,
                    &new.succeeds,
                ],
            )
            .await
            .map_err(sql_error)?;
        Ok(match row {
            Some(row) => Registered::As(AgentId(row.get(0))),
            None => Registered::NameTaken,
        })
    }

    async fn seen(&self, sessions: &[SessionId]) -> Result<()> {
        let ids: Vec<Uuid> = sessions.iter().map(|session| session.0).collect();
        let client = self.client().await?;
        let sql = "UPDATE agents SET seen_at = clock_timestamp() WHERE session_id = ANY ($1)";
        client.execute(sql, &[&ids]).await.map_err(sql_error)?;
        Ok(())
    }

    async fn disconnect(&self, session: SessionId) -> Result<()> {
        let client = self.client().await?;
        let sql = "UPDATE agents SET connected = false, seen_at = clock_timestamp() WHERE session_id = $1";
        client
            .execute(sql, &[&session.0])
            .await
            .map_err(sql_error)?;
        Ok(())
    }

    async fn agents(&self) -> Result<Vec<Agent>> {
        let client = self.client().await?;
        let sql = "SELECT * FROM agents ORDER BY name COLLATE \"C\"";
        let found = client.query(sql, &[]).await.map_err(sql_error)?;
        Ok(rows::all(&found, agent)?)
    }
}

fn token(row: &Row) -> Failable<AgentToken> {
    Ok(AgentToken {
        id: TokenId(row.try_get("id")?),
        name: row.try_get("name")?,
        created_at: row.try_get("created_at")?,
    })
}

fn agent(row: &Row) -> Failable<Agent> {
    Ok(Agent {
        id: AgentId(row.try_get("id")?),
        name: row.try_get("name")?,
        session_id: SessionId(row.try_get("session_id")?),
        connected: row.try_get("connected")?,
        slots: row.try_get("slots")?,
        labels: codec::from_json("agents.labels", row.try_get("labels")?)?,
        drivers: codec::drivers_from(row.try_get("drivers")?),
        version: row.try_get("version")?,
        seen_at: row.try_get("seen_at")?,
    })
}
