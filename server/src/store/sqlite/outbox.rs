//! Events to tell, and a delivery of each for whoever subscribed to it, in the command of what happened.

use super::super::outbox::Told;
use super::rows::{Columns, key, micros, now};
use super::writer::Hints;
use crate::model::{DeliveryId, SubscriptionId};
use crate::store::Result;
use rusqlite::{Connection, params};

/// Stores an event for those who want it, with deliveries to those of them that are enabled: the others may be told later
/// what they missed. One that was told before is not told again; where nobody subscribed, an empty table is read and
/// nothing written.
pub(super) fn tell(connection: &Connection, told: &Told, hints: &mut Hints) -> Result<()> {
    let sql = "SELECT id, name, disabled_reason IS NULL FROM subscriptions s WHERE pipeline_id = ?2 \
         AND EXISTS (SELECT 1 FROM json_each(s.events) WHERE value = ?1) \
         UNION ALL SELECT id, name, disabled_reason IS NULL FROM subscriptions s WHERE pipeline_id IS NULL \
         AND EXISTS (SELECT 1 FROM json_each(s.events) WHERE value = ?1)";
    let mut statement = connection.prepare_cached(sql)?;
    let pipeline = key(told.pipeline_id.map(|id| id.0));
    let found = statement.query_map(params![told.name.as_str(), pipeline], |row| {
        let mut columns = Columns::of(row);
        let id = columns.id(SubscriptionId)?;
        let (receiver, enabled): (String, bool) = (columns.take()?, columns.take()?);
        Ok((id, receiver, enabled))
    })?;
    let mut wanted: Vec<(SubscriptionId, String, bool)> = found.collect::<rusqlite::Result<_>>()?;
    if wanted.is_empty() || !insert_event(connection, told)? {
        return Ok(());
    }
    wanted.retain(|(_, _, enabled)| *enabled);
    for (subscription_id, receiver, _) in &wanted {
        let delivery = NewDelivery {
            origin: "event",
            subscription_id: *subscription_id,
            receiver,
            told,
        };
        insert_delivery(connection, &delivery)?;
    }
    hints.deliveries |= !wanted.is_empty();
    Ok(())
}

/// `false` if it is there already.
pub(super) fn insert_event(connection: &Connection, told: &Told) -> Result<bool> {
    let sql = "INSERT INTO outgoing_events (id, name, pipeline_id, run_id, job_id, attempt, at, status, data) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO NOTHING";
    let inserted = connection.prepare_cached(sql)?.execute(params![
        told.id.0.as_bytes(),
        told.name.as_str(),
        key(told.pipeline_id.map(|id| id.0)),
        key(told.run_id.map(|id| id.0)),
        key(told.job_id.map(|id| id.0)),
        told.attempt,
        micros(told.at),
        told.status,
        told.data.to_string(),
    ])?;
    Ok(inserted > 0)
}

/// A delivery that is due now.
pub(super) struct NewDelivery<'a> {
    pub(super) origin: &'static str,
    pub(super) subscription_id: SubscriptionId,
    pub(super) receiver: &'a str,
    pub(super) told: &'a Told,
}

pub(super) fn insert_delivery(connection: &Connection, new: &NewDelivery) -> Result<DeliveryId> {
    let id = DeliveryId::new();
    let sql = "INSERT INTO deliveries (id, origin, subscription_id, receiver, event_id, event, webhook_id, \
         pipeline_id, run_id, state, next_at, created_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'pending', ?10, ?10)";
    connection.prepare_cached(sql)?.execute(params![
        id.0.as_bytes(),
        new.origin,
        new.subscription_id.0.as_bytes(),
        new.receiver,
        new.told.id.0.as_bytes(),
        new.told.name.as_str(),
        new.told.id.to_string(),
        key(new.told.pipeline_id.map(|id| id.0)),
        key(new.told.run_id.map(|id| id.0)),
        micros(now()),
    ])?;
    Ok(id)
}
