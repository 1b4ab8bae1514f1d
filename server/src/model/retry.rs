//! Which ends of an attempt are the infrastructure's fault, so that another attempt may go better.

/// Whether an errored attempt with this reason is tried again. What the pipeline itself did (its failure, its limits,
/// its own time) never is: it would do it again. Nor is what somebody stopped, or a newer run superseded.
pub fn is_infrastructure(reason: &str) -> bool {
    matches!(
        reason,
        // The agent's lease ran out: it died, hangs or is cut off.
        "agent_lost"
        // The agent was told to stop and handed the job back.
        | "agent_stopped"
        // The agent could not get the program or the body.
        | "fetch_failed"
    )
}

#[cfg(test)]
mod tests {
    use super::is_infrastructure;

    #[test]
    fn only_the_infrastructures_faults_are_tried_again() {
        for reason in ["agent_lost", "agent_stopped", "fetch_failed"] {
            assert!(is_infrastructure(reason), "{reason}");
        }
        let others = [
            "",
            "user",
            "superseded",
            "timed_out",
            "queue_timeout",
            "cpu_limit",
            "memory_limit",
            "internal",
            "driver",
        ];
        for reason in others {
            assert!(!is_infrastructure(reason), "{reason}");
        }
    }
}
