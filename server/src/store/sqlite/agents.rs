//! Agents and their credentials.

use super::super::{AgentStore, Registered, Result, codec};
use super::rows::{self, Id, all, execute, first, id, micros};
use super::{Failable, SqliteStore, now};
use crate::model::agent::{Agent, AgentToken, Registration};
use crate::model::{AgentId, SessionId, TokenId};
use async_trait::async_trait;
use rusqlite::{Connection, Row, params};
use std::time::Duration;

const SECOND_MICROS: i64 = 1_000_000;

#[async_trait]
impl AgentStore for SqliteStore {
    async fn create_token(&self, name: &str, hash: [u8; 32]) -> Result<AgentToken> {
        let name = name.to_owned();
        let create = move |connection: &Connection| {
            execute(
                connection,
                "INSERT INTO agent_tokens (id, name, token_hash, created_at) VALUES (?, ?, ?, ?)
                 ON CONFLICT (token_hash) DO NOTHING",
                (id(TokenId::new()), name, hash, micros(now())),
            )?;
            let sql = "SELECT * FROM agent_tokens WHERE token_hash = ?";
            Ok(first(connection, sql, [hash], token)?
                .ok_or(rusqlite::Error::QueryReturnedNoRows)?)
        };
        self.writer.write(create, |_| ()).await
    }

    async fn token_by_hash(&self, hash: [u8; 32]) -> Result<Option<TokenId>> {
        self.read(move |connection| {
            let sql = "SELECT * FROM agent_tokens WHERE token_hash = ? AND revoked_at IS NULL";
            Ok(first(connection, sql, [hash], token)?.map(|token| token.id))
        })
        .await
    }

    async fn tokens(&self) -> Result<Vec<AgentToken>> {
        self.read(|connection| {
            let sql = "SELECT * FROM agent_tokens WHERE revoked_at IS NULL ORDER BY id";
            all(connection, sql, [], token)
        })
        .await
    }

    async fn revoke_token(&self, token: TokenId) -> Result<bool> {
        let revoke = move |connection: &Connection| {
            let sql = "UPDATE agent_tokens SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL";
            Ok(execute(connection, sql, (micros(now()), id(token)))? == 1)
        };
        self.writer.write(revoke, |_| ()).await
    }

    async fn register(&self, registration: Registration, fresh: Duration) -> Result<Registered> {
        self.writer
            .write(
                move |connection| register_now(connection, &registration, fresh),
                |_| (),
            )
            .await
    }

    async fn seen(&self, sessions: &[SessionId]) -> Result<()> {
        let sessions: Vec<Id> = sessions.iter().copied().map(id).collect();
        let mark = move |connection: &Connection| {
            for session in &sessions {
                let sql = "UPDATE agents SET seen_at = ? WHERE session_id = ?";
                execute(connection, sql, (micros(now()), session))?;
            }
            Ok(())
        };
        self.writer.write(mark, |()| ()).await
    }

    async fn disconnect(&self, session: SessionId) -> Result<()> {
        let mark = move |connection: &Connection| {
            let sql = "UPDATE agents SET connected = 0, seen_at = ? WHERE session_id = ?";
            execute(connection, sql, (micros(now()), id(session)))?;
            Ok(())
        };
        self.writer.write(mark, |()| ()).await
    }

    async fn agents(&self) -> Result<Vec<Agent>> {
        self.read(|connection| all(connection, "SELECT * FROM agents ORDER BY name", [], agent))
            .await
    }
}

fn register_now(
    connection: &Connection,
    new: &Registration,
    fresh: Duration,
) -> Failable<Registered> {
    let now = micros(now());
    let fresh_micros = i64::try_from(fresh.as_micros()).unwrap_or(i64::MAX / SECOND_MICROS);
    let stored = first(
        connection,
        "SELECT id, boot_id, connected, seen_at FROM agents WHERE name = ?",
        [&new.name],
        |row| {
            let taken: (Id, Id, bool, i64) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            Ok(taken)
        },
    )?;
    let agent_id = match stored {
        Some((_, boot, true, seen)) if boot.0 != new.boot_id.0 && now - seen < fresh_micros => {
            return Ok(Registered::NameTaken);
        }
        Some((known, ..)) => AgentId::from(known),
        None => AgentId::new(),
    };
    execute(
        connection,
        "INSERT INTO agents (id, name, token_id, boot_id, session_id, connected, slots, labels, drivers, version,
         seen_at) VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (id) DO UPDATE SET token_id = ?3, boot_id = ?4, session_id = ?5, connected = 1, slots = ?6,
         labels = ?7, drivers = ?8, version = ?9, seen_at = ?10",
        params![
            id(agent_id),
            new.name,
            id(new.token_id),
            Id(new.boot_id.0),
            id(new.session_id),
            new.slots,
            codec::labels(&new.labels),
            codec::drivers(&new.drivers),
            new.version,
            now,
        ],
    )?;
    Ok(Registered::As(agent_id))
}

fn token(row: &Row<'_>) -> Failable<AgentToken> {
    Ok(AgentToken {
        id: TokenId::from(row.get::<_, Id>("id")?),
        name: row.get("name")?,
        created_at: rows::time(row.get("created_at")?),
    })
}

fn agent(row: &Row<'_>) -> Failable<Agent> {
    Ok(Agent {
        id: AgentId::from(row.get::<_, Id>("id")?),
        name: row.get("name")?,
        session_id: SessionId::from(row.get::<_, Id>("session_id")?),
        connected: row.get("connected")?,
        slots: row.get("slots")?,
        labels: codec::from_json("agents.labels", &row.get::<_, String>("labels")?)?,
        drivers: codec::drivers_from(&row.get::<_, String>("drivers")?),
        version: row.get("version")?,
        seen_at: rows::time(row.get("seen_at")?),
    })
}
