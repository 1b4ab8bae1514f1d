//! Keys of requests: claimed beside what they start, by one statement for all of a group.

use super::super::{Enqueued, NewRun};
use super::{Failable, millis};
use crate::model::dedup::{Again, Claimed, DedupKey, First};
use crate::model::run::Outcome;
use crate::model::{ReceiptId, RunId};
use deadpool_postgres::{Object, Transaction};
use std::collections::HashMap;
use std::time::Duration;
use tokio_postgres::Row;
use uuid::Uuid;

/// Claims keys that nobody has; in their order, so that two groups never wait for each other. One that another
/// transaction is claiming is waited for.
const CLAIM: &str = "INSERT INTO hook_keys (hook_id, key, body_sha256, receipt_id, run_id, seen_at)
    SELECT *, clock_timestamp() FROM unnest($1::uuid[], $2::bytea[], $3::bytea[], $4::uuid[], $5::uuid[])
    ON CONFLICT DO NOTHING RETURNING receipt_id";

/// Who has the keys that were not free. No join: of a row that was waited for PostgreSQL reads the newest version, but
/// what is joined to it stays what it was before the wait.
const HELD: &str = "SELECT k.hook_id, k.key, k.receipt_id, k.run_id, k.body_sha256 FROM hook_keys k
    WHERE (k.hook_id, k.key) IN (SELECT * FROM unnest($1::uuid[], $2::bytea[]))
    ORDER BY k.hook_id, k.key FOR UPDATE";

/// How the runs of those ended; asked when the keys are locked.
const ENDED: &str = "SELECT id, outcome FROM runs WHERE id = ANY ($1)";

/// Takes keys over from requests that do not stand any more.
const TAKE_OVER: &str = "UPDATE hook_keys k
    SET body_sha256 = t.body_sha256, receipt_id = t.receipt_id, run_id = t.run_id, seen_at = clock_timestamp()
    FROM unnest($1::uuid[], $2::bytea[], $3::bytea[], $4::uuid[], $5::uuid[])
        AS t (hook_id, key, body_sha256, receipt_id, run_id)
    WHERE k.hook_id = t.hook_id AND k.key = t.key";

/// A key with what claims it.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) key: &'a DedupKey,
    pub(super) receipt_id: ReceiptId,
    pub(super) run_id: Option<RunId>,
}

#[derive(Default)]
struct Columns<'a> {
    hook: Vec<Uuid>,
    key: Vec<&'a [u8]>,
    body: Vec<Option<&'a [u8]>>,
    receipt: Vec<Uuid>,
    run: Vec<Option<Uuid>>,
}

impl<'a> Columns<'a> {
    fn of(wanted: &[Wanted<'a>]) -> Self {
        let mut columns = Self::default();
        for want in wanted {
            columns.hook.push(want.key.hook);
            columns.key.push(&want.key.key);
            let body = want.key.body_sha256.as_ref();
            columns.body.push(body.map(<[u8; 32]>::as_slice));
            columns.receipt.push(want.receipt_id.0);
            columns.run.push(want.run_id.map(|run| run.0));
        }
        columns
    }
}

/// Whether a run that ended so (or goes on) has done what was asked.
pub(super) fn stands(outcome: Option<&str>) -> bool {
    match outcome.and_then(Outcome::parse) {
        None | Some(Outcome::Succeeded | Outcome::Skipped) => true,
        Some(Outcome::Failed | Outcome::Errored | Outcome::Aborted) => false,
    }
}

/// Who has a key, when it is known which runs there are and whether they stand.
fn held(row: &Row, standing: &HashMap<Uuid, bool>) -> Failable<((Uuid, Vec<u8>), Claimed)> {
    let run_id: Option<Uuid> = row.try_get("run_id")?;
    let body: Option<&[u8]> = row.try_get("body_sha256")?;
    let claimed = Claimed {
        first: First {
            receipt_id: ReceiptId(row.try_get("receipt_id")?),
            run_id: run_id.map(RunId),
        },
        body_sha256: body.and_then(|body| body.try_into().ok()),
        stands: run_id.is_some_and(|run| standing.get(&run) == Some(&true)),
    };
    Ok(((row.try_get("hook_id")?, row.try_get("key")?), claimed))
}

/// Claims the keys that are free; who has the others, by key. No key may be wanted twice.
pub(super) async fn claim<'a>(
    transaction: &Transaction<'_>,
    mut wanted: Vec<Wanted<'a>>,
) -> Failable<Vec<(Wanted<'a>, Claimed)>> {
    wanted.sort_by_key(|want| (want.key.hook, want.key.key));
    let columns = Columns::of(&wanted);
    let statement = transaction.prepare_cached(CLAIM).await?;
    let rows = transaction
        .query(
            &statement,
            &[
                &columns.hook,
                &columns.key,
                &columns.body,
                &columns.receipt,
                &columns.run,
            ],
        )
        .await?;
    let free: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    wanted.retain(|want| !free.contains(&want.receipt_id.0));
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let columns = Columns::of(&wanted);
    let mut holders = holders(transaction, &columns).await?;
    Ok(wanted
        .into_iter()
        .filter_map(|want| {
            let claimed = holders.remove(&(want.key.hook, want.key.key.to_vec()))?;
            Some((want, claimed))
        })
        .collect())
}

/// Who has these keys, by key; they are locked now.
async fn holders(
    transaction: &Transaction<'_>,
    columns: &Columns<'_>,
) -> Failable<HashMap<(Uuid, Vec<u8>), Claimed>> {
    let statement = transaction.prepare_cached(HELD).await?;
    let rows = transaction
        .query(&statement, &[&columns.hook, &columns.key])
        .await?;
    let mut runs: Vec<Uuid> = Vec::new();
    for row in &rows {
        runs.extend(row.try_get::<_, Option<Uuid>>("run_id")?);
    }
    let mut standing = HashMap::new();
    if !runs.is_empty() {
        let statement = transaction.prepare_cached(ENDED).await?;
        for row in transaction.query(&statement, &[&runs]).await? {
            standing.insert(row.try_get("id")?, stands(row.try_get("outcome")?));
        }
    }
    rows.iter().map(|row| held(row, &standing)).collect()
}

/// Takes over the keys of earlier requests.
pub(super) async fn take_over(
    transaction: &Transaction<'_>,
    wanted: &[Wanted<'_>],
) -> Failable<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let columns = Columns::of(wanted);
    let statement = transaction.prepare_cached(TAKE_OVER).await?;
    transaction
        .execute(
            &statement,
            &[
                &columns.hook,
                &columns.key,
                &columns.body,
                &columns.receipt,
                &columns.run,
            ],
        )
        .await?;
    Ok(())
}

/// What the keys of a group of runs say.
#[derive(Default)]
pub(super) struct Verdicts {
    /// Runs that must not be stored, and why.
    pub(super) known: HashMap<RunId, Enqueued>,
    /// Runs that are done again, with the first receipt.
    pub(super) again: HashMap<RunId, ReceiptId>,
}

/// Claims the keys of the runs of a group. A key that the group itself wants twice goes to the first of them.
pub(super) async fn claim_group(
    transaction: &Transaction<'_>,
    runs: &[&NewRun],
) -> Failable<Verdicts> {
    let mut verdicts = Verdicts::default();
    let mut wanted: HashMap<(Uuid, [u8; 16]), Wanted<'_>> = HashMap::new();
    // Those that come after the first one of their key, and who has it as far as the group knows.
    let mut later = Vec::new();
    for new in runs {
        let (Some(key), Some(receipt)) = (&new.dedup, &new.receipt) else {
            continue;
        };
        let want = Wanted {
            key,
            receipt_id: receipt.id,
            run_id: Some(new.id),
        };
        match wanted.get(&(key.hook, key.key)) {
            None => {
                wanted.insert((key.hook, key.key), want);
            }
            Some(first) => {
                let claimed = Claimed {
                    first: First {
                        receipt_id: first.receipt_id,
                        run_id: first.run_id,
                    },
                    body_sha256: first.key.body_sha256,
                    stands: true,
                };
                later.push((new.id, key, claimed));
            }
        }
    }
    let wanted = wanted.into_values().collect();
    let mut taken_over = Vec::new();
    let mut held = HashMap::new();
    for (want, claimed) in claim(transaction, wanted).await? {
        let Some(run_id) = want.run_id else { continue };
        // The same call once more: what is stored is its own.
        if claimed.first.run_id == Some(run_id) {
            continue;
        }
        match Enqueued::of_again(&claimed, want.key) {
            Some(known) => {
                verdicts.known.insert(run_id, known);
                held.insert((want.key.hook, want.key.key), claimed);
            }
            None => {
                verdicts.again.insert(run_id, claimed.first.receipt_id);
                taken_over.push(want);
            }
        }
    }
    for (run_id, key, first) in later {
        // If the first one came too late itself, who has the key is the first of all.
        let claimed = held.get(&(key.hook, key.key)).unwrap_or(&first);
        let known = Enqueued::of_again(claimed, key);
        verdicts.known.extend(known.map(|known| (run_id, known)));
    }
    take_over(transaction, &taken_over).await?;
    Ok(verdicts)
}

/// What a message with a key that was claimed before is.
pub(super) fn is_conflict(claimed: &Claimed, key: &DedupKey) -> bool {
    claimed.again(key) == Again::Conflict
}

pub(super) async fn forget(client: &Object, kept: Duration, limit: i64) -> Failable<u64> {
    let sql = "DELETE FROM hook_keys WHERE (hook_id, key) IN (SELECT hook_id, key FROM hook_keys
        WHERE seen_at < clock_timestamp() - $1 * interval '1 millisecond' ORDER BY seen_at LIMIT $2)";
    // A double: PostgreSQL multiplies intervals by nothing else.
    let millis = millis(kept) as f64;
    Ok(client.execute(sql, &[&millis, &limit]).await?)
}
