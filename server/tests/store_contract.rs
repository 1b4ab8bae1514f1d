//! One suite for the contract of storage, run against SQLite and PostgreSQL.
#![allow(clippy::unwrap_used, missing_docs)] // a test fails by panicking

mod store_contract {
    pub mod agents;
    pub mod attempts;
    pub mod harness;
    pub mod pipelines;
    pub mod runs;
}

use store_contract::harness::{postgres, sqlite};

macro_rules! contract {
    ($($module:ident :: $rule:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $rule() {
                super::sqlite(super::store_contract::$module::$rule).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $rule() {
                super::postgres(super::store_contract::$module::$rule).await;
            })*
        }
    };
}

contract! {
    pipelines::a_put_creates_then_updates_and_says_what_changed,
    pipelines::secrets_are_kept_replaced_and_removed,
    pipelines::listing_pages_by_name,
    pipelines::pausing_makes_a_new_version_once,
    pipelines::deleting_removes_everything,
    runs::a_run_is_stored_with_receipt_and_jobs_at_once,
    runs::the_same_run_twice_is_stored_once,
    runs::a_stale_version_or_a_paused_pipeline_stores_nothing,
    runs::a_full_queue_stores_nothing,
    runs::listing_filters_and_pages_newest_first,
    runs::refused_requests_are_recorded,
    runs::many_at_once_are_all_stored_and_their_events_have_no_holes,
    runs::hints_follow_the_commit,
    attempts::a_job_lives_from_claim_to_finish_with_events_in_order,
    attempts::a_handed_out_job_is_assigned_at_once,
    attempts::claims_respect_labels_drivers_and_age,
    attempts::two_claimers_never_get_the_same_job,
    attempts::only_the_first_answer_counts,
    attempts::a_late_answer_is_refused_and_the_202_stands,
    attempts::a_run_that_ends_silently_is_answered_202,
    attempts::repeated_reports_change_nothing_and_gaps_are_told,
    attempts::a_stale_attempt_changes_nothing,
    attempts::logs_are_stored_once_in_order_byte_for_byte,
    attempts::finished_waits_for_its_last_log_chunk,
    attempts::an_unaccepted_job_goes_back_without_penalty,
    attempts::a_lost_agent_costs_an_attempt_and_the_third_ends_the_job,
    attempts::a_job_prefers_another_agent_after_a_loss,
    attempts::a_stopped_agent_hands_its_job_back,
    attempts::a_reconnected_agent_keeps_its_attempt,
    attempts::cancelling_ends_queued_jobs_and_tells_running_ones,
    attempts::a_renewal_counts_only_for_the_holder,
    attempts::the_webhook_is_read_only_by_its_holder,
    agents::tokens_are_known_by_their_hash_until_revoked,
    agents::a_name_belongs_to_one_living_process,
}
