//! `/api/openapi.json`: the API as a document, generated from the handlers.

use super::{
    agents, builds, circleci, deliveries, endpoints, events, execute, gates, health, metrics,
    pipeforce, pipelines, receipts, replay, resources, runs, secrets, subscriptions, terminals,
    trigger, webhook,
};
use axum::Json;
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "PocketCI",
        description = "Webhook-driven CI. Errors: {\"error\":{\"code\",\"message\",\"request_id\"}}."
    ),
    paths(
        webhook::receive,
        webhook::receive_below,
        webhook::custom,
        webhook::custom_private,
        pipeforce::receive,
        pipeforce::result,
        endpoints::list,
        endpoints::show,
        endpoints::put,
        endpoints::rotate,
        endpoints::rotate_uuid,
        endpoints::remove,
        health::alive,
        health::ready,
        document,
        metrics::show,
        pipelines::list,
        pipelines::show,
        pipelines::put,
        pipelines::remove,
        pipelines::pause,
        pipelines::unpause,
        trigger::trigger,
        trigger::trigger_and_follow,
        trigger::rerun,
        builds::jobs,
        builds::all,
        builds::list,
        builds::show,
        builds::rerun,
        resources::list,
        resources::versions,
        resources::check,
        resources::check_webhook,
        resources::pin,
        resources::unpin,
        resources::enable,
        resources::disable,
        resources::clear,
        receipts::list,
        receipts::show,
        receipts::body,
        replay::one,
        replay::many,
        runs::list,
        runs::show,
        status,
        runs::steps,
        runs::stop,
        runs::queue,
        terminals::list,
        terminals::open,
        events::events,
        events::logs,
        execute::put_input,
        execute::execute,
        execute::get_output,
        secrets::list,
        secrets::put,
        secrets::remove,
        secrets::rotate,
        gates::list,
        gates::approve,
        gates::reject,
        subscriptions::list,
        subscriptions::put,
        subscriptions::show,
        subscriptions::remove,
        subscriptions::enable,
        subscriptions::disable,
        subscriptions::rotate,
        subscriptions::ping,
        deliveries::list,
        deliveries::show,
        deliveries::resend,
        deliveries::replay,
        deliveries::show_replay,
        circleci::list,
        circleci::create,
        circleci::show,
        circleci::update,
        circleci::remove,
        agents::list,
        agents::tokens,
        agents::create_token,
        agents::revoke_token,
    ),
    components(schemas(pocketci_proto::api::ErrorBody, pocketci_proto::api::RunEvent))
)]
struct Document;

/// The same answer as `/api/runs/{id}`, under the path that users of the seed know.
#[utoipa::path(get, path = "/api/runs/{id}/status", tag = "runs", params(("id" = String, Path)), responses((status = 200, body = pocketci_proto::api::Run), (status = 404)))]
#[allow(dead_code)] // only its annotation is used
fn status() {}

#[utoipa::path(get, path = "/api/openapi.json", tag = "operations", responses((status = 200, description = "this document")))]
pub(super) async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_document_has_every_route_and_no_other() {
        let documented: BTreeSet<String> =
            Document::openapi().paths.paths.keys().cloned().collect();
        let routed: BTreeSet<String> = super::super::public()
            .paths
            .into_iter()
            .chain(super::super::guarded().paths)
            // OpenAPI has no word for a parameter that takes the rest of a path.
            .map(|path| path.replace("{*", "{"))
            .collect();
        assert_eq!(documented, routed);
    }
}
