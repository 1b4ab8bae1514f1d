//! A page of deliveries: only the filters that are set are in the question, so that an index serves it.

use super::super::{Failable, rows};
use crate::model::delivery::{Delivery, DeliveryFilter, DeliveryState, Origin};
use crate::model::subscription::EventName;
use deadpool_postgres::Object;
use tokio_postgres::types::ToSql;

/// Conditions, joined by AND, and what stands in their places.
#[derive(Default)]
struct Question {
    conditions: Vec<String>,
    given: Vec<Box<dyn ToSql + Sync + Send>>,
}

impl Question {
    /// `condition` has `$` where the value goes.
    fn ask<T: ToSql + Sync + Send + 'static>(&mut self, condition: &str, value: Option<T>) {
        if let Some(value) = value {
            self.given.push(Box::new(value));
            let place = format!("${}", self.given.len());
            self.conditions.push(condition.replace('$', &place));
        }
    }
}

/// See [`super::super::super::DeliveryStore::deliveries`].
pub(super) async fn list(client: &Object, filter: &DeliveryFilter) -> Failable<Vec<Delivery>> {
    let mut question = Question::default();
    question.ask("subscription_id = $", filter.subscription_id.map(|id| id.0));
    question.ask("pipeline_id = $", filter.pipeline_id.map(|id| id.0));
    question.ask("run_id = $", filter.run_id.map(|id| id.0));
    question.ask("event_id = $", filter.event_id.map(|id| id.0));
    question.ask("event = $", filter.event.map(EventName::as_str));
    question.ask("state = $", filter.state.map(DeliveryState::as_str));
    question.ask("origin = $", filter.origin.map(Origin::as_str));
    question.ask("created_at >= $", filter.since);
    question.ask("created_at < $", filter.until);
    let older = "seq < (SELECT seq FROM deliveries WHERE id = $)";
    question.ask(older, filter.after.map(|id| id.0));
    let all = match question.conditions.is_empty() {
        true => "true".to_owned(),
        false => question.conditions.join(" AND "),
    };
    question.given.push(Box::new(filter.limit));
    let limit = question.given.len();
    let sql = format!("SELECT * FROM deliveries WHERE {all} ORDER BY seq DESC LIMIT ${limit}");
    let statement = client.prepare_cached(&sql).await?;
    let given: Vec<&(dyn ToSql + Sync)> = question
        .given
        .iter()
        .map(|value| &**value as &(dyn ToSql + Sync))
        .collect();
    rows::all(&client.query(&statement, &given).await?, super::delivery)
}
