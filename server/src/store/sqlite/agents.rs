//! Agents and their credentials.

use super::SqliteStore;
use super::rows::{Columns, json, micros, now};
use crate::model::agent::{Agent, AgentToken, Registration};
use crate::model::{AgentId, BootId, SessionId, TokenId};
use crate::store::{AgentStore, Registered, Result};
use async_trait::async_trait;
use pocketci_proto::api::Driver;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use std::time::Duration;

fn token(row: &Row) -> rusqlite::Result<AgentToken> {
    let mut columns = Columns::of(row);
    Ok(AgentToken {
        id: columns.id(TokenId)?,
        name: columns.take()?,
        created_at: columns.time()?,
    })
}

fn create_token(connection: &Connection, name: &str, hash: [u8; 32]) -> Result<AgentToken> {
    connection
        .prepare_cached(
            "INSERT INTO tokens (id, name, hash, created_at) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (hash) DO NOTHING",
        )?
        .execute(params![
            TokenId::new().0.as_bytes(),
            name,
            hash,
            micros(now())
        ])?;
    let sql = "SELECT id, name, created_at FROM tokens WHERE hash = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([hash], token)?)
}

fn tokens(connection: &Connection) -> Result<Vec<AgentToken>> {
    let sql = "SELECT id, name, created_at FROM tokens WHERE revoked_at IS NULL \
         ORDER BY created_at, id";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map([], token)?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

fn token_by_hash(connection: &Connection, hash: [u8; 32]) -> Result<Option<TokenId>> {
    let sql = "SELECT id FROM tokens WHERE hash = ?1 AND revoked_at IS NULL";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_row([hash], |row| Columns::of(row).id(TokenId));
    Ok(found.optional()?)
}

fn revoke_token(connection: &Connection, id: TokenId) -> Result<bool> {
    let sql = "UPDATE tokens SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.execute(params![id.0.as_bytes(), micros(now())])? > 0)
}

/// Whether the name is in use by another process that was heard of lately.
fn is_taken(connection: &Connection, new: &Registration, fresh: Duration) -> Result<bool> {
    let sql = "SELECT boot_id FROM agents WHERE name = ?1 AND connected AND seen_at > ?2 \
         AND NOT (?3 AND token_id = ?4)";
    let mut statement = connection.prepare_cached(sql)?;
    let since = micros(now() - fresh);
    let given = params![new.name, since, new.succeeds, new.token_id.0.as_bytes()];
    let holder = statement
        .query_row(given, |row| Columns::of(row).id(BootId))
        .optional()?;
    Ok(holder.is_some_and(|boot_id| boot_id != new.boot_id))
}

fn register(connection: &Connection, new: &Registration, fresh: Duration) -> Result<Registered> {
    if is_taken(connection, new, fresh)? {
        return Ok(Registered::NameTaken);
    }
    let sql = "INSERT INTO agents (id, name, boot_id, session_id, token_id, connected, slots, \
         labels, drivers, version, seen_at) VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?7, ?8, ?9, ?10) \
         ON CONFLICT (name) DO UPDATE SET boot_id = ?3, session_id = ?4, token_id = ?5, \
         connected = 1, slots = ?6, labels = ?7, drivers = ?8, version = ?9, seen_at = ?10 \
         RETURNING id";
    let id = AgentId::new();
    let given = params![
        id.0.as_bytes(),
        new.name,
        new.boot_id.0.as_bytes(),
        new.session_id.0.as_bytes(),
        new.token_id.0.as_bytes(),
        new.slots,
        json(&new.labels)?,
        json(&new.drivers)?,
        new.version,
        micros(now()),
    ];
    let mut statement = connection.prepare_cached(sql)?;
    let id = statement.query_row(given, |row| Columns::of(row).id(AgentId))?;
    Ok(Registered::As(id))
}

fn seen(connection: &Connection, sessions: &[SessionId]) -> Result<()> {
    let sql = "UPDATE agents SET seen_at = max(seen_at, ?2) WHERE session_id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let now = micros(now());
    for session_id in sessions {
        statement.execute(params![session_id.0.as_bytes(), now])?;
    }
    Ok(())
}

fn disconnect(connection: &Connection, session_id: SessionId) -> Result<()> {
    connection
        .prepare_cached("UPDATE agents SET connected = 0 WHERE session_id = ?1")?
        .execute([session_id.0.as_bytes()])?;
    Ok(())
}

fn agents(connection: &Connection) -> Result<Vec<Agent>> {
    let sql = "SELECT id, name, session_id, connected, slots, labels, drivers, version, seen_at \
         FROM agents ORDER BY name";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map([], |row| {
        let mut columns = Columns::of(row);
        Ok(Agent {
            id: columns.id(AgentId)?,
            name: columns.take()?,
            session_id: columns.id(SessionId)?,
            connected: columns.take()?,
            slots: columns.take()?,
            labels: columns.json()?,
            drivers: columns.json::<Vec<Driver>>()?,
            version: columns.take()?,
            seen_at: columns.time()?,
        })
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

#[async_trait]
impl AgentStore for SqliteStore {
    async fn create_token(&self, name: &str, hash: [u8; 32]) -> Result<AgentToken> {
        let name = name.to_owned();
        self.writer
            .call(move |connection, _| create_token(connection, &name, hash))
            .await
    }

    async fn token_by_hash(&self, hash: [u8; 32]) -> Result<Option<TokenId>> {
        self.readers
            .read(move |connection| token_by_hash(connection, hash))
            .await
    }

    async fn tokens(&self) -> Result<Vec<AgentToken>> {
        self.readers.read(tokens).await
    }

    async fn revoke_token(&self, id: TokenId) -> Result<bool> {
        self.writer
            .call(move |connection, _| revoke_token(connection, id))
            .await
    }

    async fn register(&self, registration: Registration, fresh: Duration) -> Result<Registered> {
        self.writer
            .call(move |connection, _| register(connection, &registration, fresh))
            .await
    }

    async fn seen(&self, sessions: &[SessionId]) -> Result<()> {
        if sessions.is_empty() {
            return Ok(());
        }
        let sessions = sessions.to_owned();
        self.writer
            .call(move |connection, _| seen(connection, &sessions))
            .await
    }

    async fn disconnect(&self, session_id: SessionId) -> Result<()> {
        self.writer
            .call(move |connection, _| disconnect(connection, session_id))
            .await
    }

    async fn agents(&self) -> Result<Vec<Agent>> {
        self.readers.read(agents).await
    }
}
