//! The log of pipelines' `webhook.send`.

use super::super::super::{SendTry, codec};
use super::super::Failable;
use super::tries::Ends;
use crate::model::delivery::{DeliveryState, TryState};
use deadpool_postgres::Object;
use tokio_postgres::types::ToSql;

/// See [`super::super::super::DeliveryStore::record_send`].
pub(super) async fn record_send(client: &mut Object, noted: &SendTry) -> Failable<bool> {
    let transaction = client.transaction().await?;
    let state = match (noted.end.state, noted.last) {
        (TryState::Delivered, _) => DeliveryState::Delivered,
        (_, true) => DeliveryState::Failed,
        (_, false) => DeliveryState::Sending,
    };
    let id = codec::send_id(noted.run_id, &noted.webhook_id);
    let sql = "INSERT INTO deliveries (id, origin, receiver, webhook_id, pipeline_id, run_id, state, tries, created_at,
            finished_at)
        SELECT $1, 'send', $2, $3, $4, $5, $6, $7, now, CASE WHEN $6 <> 'sending' THEN now END
        FROM clock_timestamp() AS now WHERE EXISTS (SELECT 1 FROM runs WHERE id = $5)
        ON CONFLICT (id) DO UPDATE SET tries = greatest(deliveries.tries, excluded.tries),
            state = CASE WHEN deliveries.state = 'sending' OR excluded.state = 'delivered' THEN excluded.state
                ELSE deliveries.state END,
            reason = CASE WHEN excluded.state = 'delivered' THEN '' ELSE deliveries.reason END,
            finished_at = coalesce(deliveries.finished_at, excluded.finished_at)";
    let given: [&(dyn ToSql + Sync); 7] = [
        &id.0,
        &noted.request.url,
        &noted.webhook_id,
        &noted.pipeline_id.0,
        &noted.run_id.0,
        &state.as_str(),
        &noted.number,
    ];
    if transaction.execute(sql, &given).await? == 0 {
        return Ok(false);
    }
    let mut end = Ends::default();
    end.add(id.0, noted.number, &noted.end);
    let sql = "INSERT INTO delivery_tries (delivery_id, number, state, status, response_headers, response_body, error,
            duration_us, first_byte_us, peer, began_at, sender, url, method, headers, body_bytes, body_sha256)
        SELECT t.*, $11, $12, $13, $14, $15, $16, $17
        FROM unnest($1::uuid[], $2::int[], $3::text[], $4::int[], $5::text[], $6::bytea[], $7::text[], $8::bigint[],
            $9::bigint[], $10::text[]) AS t
        ON CONFLICT DO NOTHING";
    let headers = codec::json(&noted.request.headers);
    let mut given = end.params();
    given.extend([
        &noted.began_at as &(dyn ToSql + Sync),
        &noted.sender,
        &noted.request.url,
        &noted.request.method,
        &headers,
        &noted.request.body_bytes,
        &noted.request.body_sha256,
    ]);
    let is_new = transaction.execute(sql, &given).await? > 0;
    transaction.commit().await?;
    Ok(is_new)
}
