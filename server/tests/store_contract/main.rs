//! The contract of storage, rule by rule: every verb of `store/mod.rs` against both storages.
//!
//! A rule is an `async fn(Shared)` that knows no storage; the list below instantiates each one as `sqlite::rule` and
//! `postgres::rule`. A rule that is not listed is dead code, which the compiler reports.

// A failed expectation of a test is a panic; `unwrap` says so in the fewest words.
#![allow(clippy::unwrap_used)]

mod admission;
mod agents;
mod archives;
mod attempts;
mod bodies;
mod builds;
mod cancels;
mod claims;
mod deliveries;
mod delivery_limits;
mod durability;
mod gates;
mod home;
mod home_postgres;
mod hooks;
mod journal;
mod keys;
mod leases;
mod listings;
mod logs;
mod long_history;
mod pipelines;
mod queue;
mod receipt_log;
mod receipts;
mod resources;
mod runs;
mod secrets;
mod selection;
mod selection_cases;
mod story;
mod subscriptions;
mod upgrade;
mod values;
mod version_lists;
mod version_story;
mod wakes;

/// Makes one test of each rule and storage.
macro_rules! contract {
    ($($noun:ident { $($rule:ident,)* })*) => {
        mod sqlite {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $rule() {
                    let home = crate::home::Home::sqlite();
                    home.hold(crate::$noun::$rule).await;
                }
            )*)*
        }
        mod postgres {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $rule() {
                    let home = crate::home::Home::postgres().await;
                    home.hold(crate::$noun::$rule).await;
                }
            )*)*
        }
    };
}

contract! {
    admission {
        a_build_is_handed_out_when_it_is_admitted_and_not_before,
        a_limit_holds_though_many_are_admitted_at_once,
        what_is_cancelled_or_paused_is_not_admitted,
        a_run_of_which_all_is_skipped_is_skipped_and_its_caller_is_answered,
        what_was_let_go_is_not_skipped,
        a_run_that_was_stopped_ends_aborted_though_another_job_failed,
        a_rerun_uses_what_the_original_used,
        a_group_lets_its_builds_wait_for_their_inputs,
        checks_that_are_over_are_forgotten_and_nothing_else,
    }
    queue {
        pipelines_take_turns_however_much_one_of_them_queued,
        runs_stored_in_one_group_take_turns_too,
        higher_priorities_go_first,
        nobody_starves_among_equals_though_others_come_again_and_again,
        an_admitted_run_gets_its_turn_when_it_is_admitted,
        a_refused_job_goes_on_waiting_as_before,
        waiting_counts_as_priority_so_that_nobody_starves,
        a_long_queue_that_fits_nobody_is_no_hindrance,
        a_limit_on_all_running_jobs_holds_against_many_claims_at_once,
        a_paused_pipelines_jobs_are_held_until_it_is_resumed,
        a_lost_job_of_a_paused_pipeline_goes_on,
        a_groups_jobs_are_held_until_they_are_admitted_one_by_one,
        a_group_is_ruled_as_its_pipeline_says_now,
        a_paused_groups_admitted_jobs_stay_held,
        a_superseded_run_says_by_whom_and_a_skipped_one_did_nothing,
        what_waits_too_long_is_found_and_ends_saying_why,
        a_job_that_was_accepted_is_not_overdue,
        terms_are_kept_and_a_job_is_tried_as_often_as_they_say,
    }
    pipelines {
        put_creates_version_and_revision_one,
        put_without_a_difference_changes_nothing,
        put_of_equal_content_makes_no_new_revision,
        put_of_new_content_makes_the_next_revision,
        put_replaces_keeps_and_removes_secrets,
        put_changes_driver_and_labels,
        concurrent_puts_of_one_name_make_one_pipeline,
        settings_are_changed_by_who_saw_their_version,
        pausing_is_a_new_version_only_if_it_differs,
        pipelines_are_paged_by_name,
        delete_removes_everything_of_the_pipeline,
        imported_files_belong_to_the_revision,
    }
    secrets {
        a_secret_is_set_replaced_listed_and_removed,
        a_pipeline_sees_its_own_secrets_before_everybodys,
        a_secret_of_an_unknown_pipeline_is_refused,
        resealing_needs_the_bytes_that_are_stored,
        webhook_secrets_are_resealed_only_for_the_version_seen,
        keys_in_use_are_remembered_until_one_is_left,
    }
    values {
        a_value_is_patched_replaced_and_removed,
        values_are_each_pipelines_own,
        values_are_listed_by_prefix_in_order,
        a_pipeline_has_only_so_many_and_so_large_values,
        patches_of_many_at_once_add_up,
        a_key_is_seen_once_and_the_first_may_ask_again,
        a_key_is_forgotten_in_time,
        of_many_who_ask_at_once_one_is_first,
    }
    gates {
        a_gate_is_opened_once_for_a_call,
        the_first_decision_counts,
        an_expired_gate_can_only_time_out,
        a_gate_of_a_run_that_is_over_cannot_be_decided,
        open_gates_are_listed_with_their_pipelines,
    }
    journal {
        a_journal_is_read_as_it_was_written,
        a_journal_entry_is_stored_once_and_a_hole_is_refused,
        a_journal_is_written_and_read_by_its_holder_only,
        the_next_attempt_goes_on_with_the_journal,
        a_cleared_journal_begins_again,
        a_journal_ends_with_its_job,
        a_deleted_pipeline_takes_its_journals_along,
        a_journal_has_a_size_and_is_read_in_pages,
    }
    archives {
        an_archive_can_be_read_when_it_is_complete_and_not_before,
        a_page_is_stored_once_and_a_hole_is_refused,
        an_archive_begun_again_takes_the_place_of_the_earlier_one,
        of_many_who_begin_an_archive_at_once_one_finishes,
        a_user_writes_for_runs_that_are_not_there_only,
        an_agent_writes_for_the_attempt_that_it_holds_only,
        a_run_has_only_so_many_archives,
        archives_are_forgotten_in_time_but_not_those_of_runs_that_go_on,
        a_deleted_pipeline_takes_its_archives_along,
    }
    bodies {
        a_body_is_read_as_it_was_stored_and_a_repeated_page_changes_nothing,
        a_body_goes_with_its_last_receipt_and_not_before,
    }
    receipt_log {
        receipts_are_found_by_what_is_known_of_them,
        receipts_are_paged_without_hole_or_repeat,
        receipts_are_forgotten_by_age_but_not_those_of_runs_that_go_on,
        the_oldest_bodies_go_when_they_are_too_many,
    }
    runs {
        enqueue_stores_receipt_run_and_jobs_at_once,
        a_run_id_is_stored_once,
        a_stale_version_stores_nothing,
        a_paused_or_deleted_pipeline_stores_nothing,
        a_run_that_may_wait_begins_when_its_pipeline_goes_on,
        each_run_is_measured_by_its_own_limit,
        a_full_queue_stores_nothing,
        a_handed_out_job_is_assigned_as_attempt_one,
        a_handed_out_job_needs_no_room_in_the_queue,
        jobs_keep_their_order,
    }
    claims {
        claim_counts_the_attempt_and_sets_the_lease,
        claim_needs_all_labels_and_the_driver,
        foreign_jobs_do_not_hide_claimable_ones,
        claim_takes_the_oldest_first,
        two_claimers_never_get_one_job,
        a_lost_job_prefers_another_agent,
        a_lost_job_returns_to_its_agent_in_time,
    }
    attempts {
        a_run_from_accept_to_finish,
        submits_of_a_run_keep_the_order_of_the_calls,
        a_second_respond_is_ignored_with_an_event,
        respond_after_close_reply_is_late,
        close_reply_after_respond_is_a_duplicate,
        finish_without_respond_stores_the_servers_reply,
        a_manual_run_has_no_reply,
        a_repeated_report_is_a_duplicate,
        a_report_after_a_hole_is_a_gap,
        a_stale_attempt_or_session_changes_nothing,
        nothing_of_attempt_one_counts_after_attempt_two,
        a_finished_run_never_changes,
        a_change_to_an_unknown_run_is_stale,
        a_rejected_job_is_queued_again_without_penalty,
        a_run_is_over_with_its_last_job,
    }
    logs {
        logs_are_stored_byte_by_byte,
        logs_are_idempotent_and_contiguous,
        finished_before_its_last_chunk_is_a_gap,
        facts_and_output_share_one_numbering,
        packed_output_and_gaps_are_kept_as_they_came,
        log_offsets_are_where_each_stream_ends,
        an_attempt_that_breaks_the_protocol_is_lost,
    }
    leases {
        an_unaccepted_job_expires_without_penalty,
        a_live_lease_does_not_expire,
        a_lost_attempt_is_counted_and_queued_again,
        the_third_loss_ends_the_job_as_agent_lost,
        a_stopped_agents_job_is_queued_again,
        the_same_agent_adopts_with_a_new_session,
        adoption_by_another_agent_or_attempt_is_refused,
        adoption_tells_of_a_cancel,
        an_unaccepted_assignment_can_be_released,
        renew_prolongs_only_what_is_held,
        expired_lists_the_oldest_first_up_to_the_limit,
    }
    cancels {
        cancelling_a_queued_run_aborts_it_at_once,
        cancelling_a_running_run_lists_it_for_its_session,
        cancelling_twice_changes_nothing,
        a_cancelled_run_is_not_queued_again,
        a_cancelled_job_is_never_claimed,
    }
    hooks {
        an_endpoint_is_found_by_name_id_and_secret_id,
        an_endpoint_is_changed_by_one_at_a_time,
        a_secret_id_that_is_over_finds_nothing,
        listeners_follow_what_is_put,
        a_hundred_of_the_same_delivery_are_one_run,
        a_delivery_whose_run_failed_is_done_again_and_linked,
        a_delivery_with_another_body_is_a_conflict,
        a_run_that_was_not_stored_claims_nothing,
        keys_are_forgotten_by_age,
        a_message_is_one_receipt_and_a_run_for_each_listener,
        what_a_dead_server_left_is_due_to_others,
        a_message_that_comes_again_is_for_those_that_failed,
        an_answer_is_written_beside_its_request,
        a_run_remembers_that_it_is_anonymous,
        one_anonymous_source_is_known_among_many,
    }
    keys {
        a_stale_run_leaves_its_key_as_it_was,
        a_request_whose_body_is_forgotten_is_not_stored,
        a_body_that_a_receipt_names_is_not_dropped,
        what_a_paused_pipeline_misses_is_due_when_it_is_resumed,
        what_a_paused_pipeline_misses_for_too_long_is_due_to_be_given_up,
    }
    receipts {
        a_refusal_is_kept_without_a_run,
        held_receipts_are_fenced,
        held_runs_are_fenced,
        receipts_keep_bytes_and_order,
        a_repeated_refusal_is_stored_once,
        a_request_to_an_event_belongs_to_no_pipeline,
        a_refusal_for_a_deleted_pipeline_is_no_error,
    }
    agents {
        a_token_is_stored_once_by_its_hash,
        a_revoked_token_is_no_credential,
        registering_again_keeps_the_id,
        a_fresh_namesake_is_refused,
        a_successor_takes_its_name_at_once_with_the_same_credential,
        a_stale_or_disconnected_namesake_is_replaced,
        an_old_session_cannot_disconnect_the_new_one,
        seen_moves_the_time_of_the_sessions_named,
        agents_are_listed_by_name,
    }
    listings {
        runs_are_listed_newest_first_in_pages,
        runs_are_filtered_by_pipeline_and_status,
        events_are_paged_and_unknown_runs_are_none,
        replies_are_found_for_many_runs,
    }
    wakes {
        enqueue_wakes_those_who_look_for_work,
        requeue_wakes_those_who_look_for_work,
        cancel_wakes_the_session,
        a_reply_is_hinted_after_its_commit,
        the_end_of_a_run_is_hinted_after_its_commit,
    }
    resources {
        what_is_no_longer_declared_is_gone,
        an_old_revision_declares_nothing,
        another_scope_is_another_list_and_the_old_one_comes_back,
        one_check_begins_of_many_at_once,
        an_overtaken_check_ends_nothing,
        a_check_begins_again_after_the_pause,
        a_pin_stands_for_the_newest_version_that_contains_it,
        a_pin_is_found_among_many_that_only_look_like_it,
    }
    version_lists {
        a_check_that_finds_nothing_new_moves_nothing,
        one_new_version_moves_all_that_were_found_to_the_end,
        a_version_that_moves_keeps_what_is_known_of_it,
        a_list_is_read_in_pages,
        any_text_is_kept_in_a_version,
        a_put_is_an_output_at_once_and_once,
        a_put_of_an_older_scope_is_an_output_but_in_no_list,
        checks_and_puts_at_once_lose_nothing,
        cleared_versions_are_gone_and_what_builds_used_is_not,
        whoever_schedules_hears_of_changes,
    }
    builds {
        builds_count_from_one_for_each_job,
        reruns_count_within_the_build_that_they_repeat,
        a_rerun_of_what_is_no_build_of_the_job_is_a_build,
        a_repeated_or_refused_run_takes_no_number,
        a_run_has_builds_of_several_jobs,
        of_many_at_once_no_number_is_given_twice,
        inputs_are_taken_once_while_the_build_is_not_over,
        a_rerun_adopts_inputs_and_where_they_came_from,
        nothing_is_left_of_a_deleted_pipeline,
        a_pipeline_deleted_amid_writes_leaves_nothing,
    }
    selection {
        a_version_is_used_for_the_first_time_under_each_name,
        a_pin_by_command_goes_before_every_wish_but_a_pin,
        every_version_is_chosen_in_turn_and_it_is_known_whether_more_follow,
        each_version_of_a_passed_job_is_chosen_in_turn,
        what_a_failed_build_made_has_not_passed,
        the_reason_names_input_job_and_version,
        what_is_not_declared_has_no_versions,
        a_long_way_back_is_found_through_all_pages,
    }
    selection_cases {
        concourses_own_cases_are_answered_alike,
    }
    subscriptions {
        a_subscription_is_kept_as_it_was_given,
        a_subscription_is_changed_by_who_saw_its_version,
        subscriptions_are_listed_by_name_and_end_with_their_pipeline,
        the_others_hear_that_one_was_disabled_and_why,
    }
    deliveries {
        a_run_tells_those_who_subscribed_and_nobody_else,
        runs_that_end_without_an_agent_are_told_and_checks_are_not,
        a_waiting_gate_is_told_once,
        a_delivery_is_taken_once_and_its_tries_are_kept,
        whoever_loses_its_lease_decides_nothing_but_what_arrived_has_arrived,
        ends_without_a_try_are_kept_with_their_reason,
        a_try_of_webhook_send_is_noted_once,
    }
    delivery_limits {
        a_receiver_has_its_concurrency_and_an_unproven_one_a_single_request,
        dead_receivers_leave_room_for_the_others,
        subscriptions_take_turns_however_much_waits_for_one,
        an_ordered_subscription_waits_for_its_first,
        a_rate_holds_over_all_servers,
        a_paused_or_disabled_subscription_is_sent_nothing,
        a_receiver_that_is_dead_for_long_is_disabled,
        one_is_sent_again_whatever_became_of_it,
        past_events_are_delivered_again_page_by_page_and_counted_before,
        what_failed_is_replayed_once_it_is_not_on_its_way,
        old_deliveries_are_forgotten_but_not_those_in_hand,
        what_a_sole_disabled_subscriber_missed_can_be_replayed,
        what_a_receiver_said_before_a_change_is_not_held_against_it_after,
        what_a_deleted_subscription_leaves_is_forgotten_in_pages,
    }
    durability {
        the_database_answers,
        many_tasks_lose_and_mix_nothing,
        many_tasks_on_one_run_leave_no_gap,
    }
}

/// Makes one test of each rule that opens and closes the store itself.
macro_rules! contract_of_homes {
    ($($noun:ident { $($rule:ident,)* })*) => {
        mod sqlite_home {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $rule() {
                    let home = crate::home::Home::sqlite();
                    home.lend(crate::$noun::$rule).await;
                }
            )*)*
        }
        mod postgres_home {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $rule() {
                    let home = crate::home::Home::postgres().await;
                    home.lend(crate::$noun::$rule).await;
                }
            )*)*
        }
    };
}

contract_of_homes! {
    archives {
        an_archive_and_all_of_them_have_a_size,
    }
    bodies {
        bodies_outlive_their_server,
    }
    keys {
        a_failed_delivery_is_taken_over_once_by_all_servers_together,
        a_body_is_forgotten_or_named_but_never_both,
    }
    long_history {
        a_long_history_is_searched_quickly,
    }
    builds {
        two_servers_never_give_a_number_twice,
    }
    upgrade {
        what_version_two_stored_goes_on,
    }
    durability {
        reopening_finds_everything,
        a_store_that_was_opened_twice_over_time_migrates_once,
    }
}
