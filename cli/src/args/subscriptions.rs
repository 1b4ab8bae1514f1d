//! Subscriptions, deliveries, and sending again.

use super::{Connection, ListArgs, key_value};
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use humantime::parse_duration;
use pocketci_proto::ids::{DeliveryId, RunId};
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

#[derive(Subcommand)]
pub enum SubscriptionCommand {
    /// Create or change a subscription; what is not given stays
    Put(Box<PutSubscriptionArgs>),
    /// Show a subscription, without its secrets
    Get(SubscriptionArg),
    /// List subscriptions
    Ls(SubscriptionsLsArgs),
    /// Remove a subscription with its deliveries
    Delete(SubscriptionArg),
    /// Send again, forgetting failures
    Enable(SubscriptionArg),
    /// Send nothing any more
    Disable(SubscriptionArg),
    /// Sign with a new secret; the old one signs beside it for a while
    Rotate(RotateArgs),
    /// Send a ping, or a sample of an event
    Ping(PingArgs),
}

/// Waits between tries.
#[derive(Debug, Clone, PartialEq)]
pub enum Schedule {
    /// The server's.
    Default,
    /// These; empty is one try only.
    Waits(Vec<Duration>),
}

fn schedule(text: &str) -> Result<Schedule, String> {
    match text {
        "default" => return Ok(Schedule::Default),
        "none" => return Ok(Schedule::Waits(Vec::new())),
        _ => {}
    }
    let waits: Result<Vec<Duration>, _> = text
        .split(',')
        .map(|wait| parse_duration(wait.trim()))
        .collect();
    waits
        .map(Schedule::Waits)
        .map_err(|error| format!("expected waits such as 5s,30s,5m, or none, or default: {error}"))
}

/// An instant: RFC 3339, or so long ago.
pub fn instant(text: &str) -> Result<OffsetDateTime, String> {
    if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(at);
    }
    let ago = parse_duration(text).map_err(|_| {
        format!(
            "expected a time such as 2026-03-01T10:00:00Z, or so long ago such as 2h, got {text:?}"
        )
    })?;
    SystemTime::now()
        .checked_sub(ago)
        .map(OffsetDateTime::from)
        .ok_or_else(|| "that is too long ago".to_owned())
}

#[derive(ClapArgs)]
pub struct PutSubscriptionArgs {
    /// Its name; an id for one that is stored
    pub name: String,
    /// Where requests go
    #[arg(long)]
    pub url: Option<String>,
    /// What is told: workflow-completed, job-completed, run-started, gate-waiting, subscription-disabled; may be repeated
    #[arg(long = "event", value_name = "EVENT", value_delimiter = ',')]
    pub events: Vec<String>,
    /// Only what happens in this pipeline (name or id); "" is all
    #[arg(long)]
    pub pipeline: Option<String>,
    /// Requests are signed with it, and with no other; "" signs nothing; - reads it from stdin
    #[arg(long, env = "CI_SUBSCRIPTION_SECRET", hide_env_values = true)]
    pub secret: Option<String>,
    /// A header of every request; may be repeated; NAME= removes one
    #[arg(long = "header", value_parser = key_value, value_name = "NAME=VALUE")]
    pub headers: Vec<(String, String)>,
    /// Whether the receiver's certificate must be valid
    #[arg(long, value_name = "BOOL")]
    pub verify_tls: Option<bool>,
    /// PEM certificates to trust instead of the well-known ones; "" removes them
    #[arg(long, value_name = "FILE")]
    pub ca: Option<String>,
    /// Only events for which this expression is true; payload is the body; "" removes it
    #[arg(long, value_name = "EXPRESSION")]
    pub filter: Option<String>,
    /// Requests at the same time, 1 to 64
    #[arg(long, value_name = "REQUESTS")]
    pub concurrency: Option<i32>,
    /// Most requests a second; 0 is no limit
    #[arg(long, value_name = "REQUESTS")]
    pub rate: Option<f64>,
    /// Waits between tries such as 5s,30s,5m; none is one try, default the server's
    #[arg(long, value_parser = schedule, value_name = "WAITS")]
    pub schedule: Option<Schedule>,
    /// One at a time, in the order of events
    #[arg(long, value_name = "BOOL")]
    pub ordered: Option<bool>,
    /// Another name
    #[arg(long, value_name = "NAME")]
    pub rename: Option<String>,
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct SubscriptionArg {
    /// Name or id
    pub name: String,
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct SubscriptionsLsArgs {
    /// Only those that are told what happens in this pipeline (name or id)
    #[arg(long)]
    pub pipeline: Option<String>,
    #[command(flatten)]
    pub list: ListArgs,
}

#[derive(ClapArgs)]
pub struct RotateArgs {
    /// Name or id
    pub name: String,
    /// The new secret; - reads it from stdin [default: the server makes one and it is printed this once]
    #[arg(long, env = "CI_SUBSCRIPTION_SECRET", hide_env_values = true)]
    pub secret: Option<String>,
    /// How long the old one signs beside it; 0s is not at all
    #[arg(long, value_parser = parse_duration, default_value = "24h", value_name = "DURATION")]
    pub overlap: Duration,
    /// Only add it to webhook-signature; circleci-signature stays with the old one until --cut-over
    #[arg(long)]
    pub stage: bool,
    /// Make the staged one the current one
    #[arg(long, conflicts_with_all = ["stage", "secret"])]
    pub cut_over: bool,
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct PingArgs {
    /// Name or id
    pub name: String,
    /// Send a whole sample of this event instead of a bare ping
    #[arg(long)]
    pub event: Option<String>,
    /// Who pings [default: the user of this machine]
    #[arg(long, env = "CI_USER")]
    pub by: Option<String>,
    /// Do not wait for the receiver's answer
    #[arg(long)]
    pub no_wait: bool,
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct DeliveriesArgs {
    /// Only to this subscription (name or id)
    #[arg(long)]
    pub subscription: Option<String>,
    /// Only about this pipeline (name or id)
    #[arg(long)]
    pub pipeline: Option<String>,
    /// Only about this run
    #[arg(long)]
    pub run: Option<RunId>,
    /// Only of this event, by name
    #[arg(long)]
    pub event: Option<String>,
    /// Only in this state: pending, sending, delivered, failed, filtered, dropped
    #[arg(long)]
    pub state: Option<String>,
    /// Only of this origin: event, resend, replay, ping, send (a pipeline's webhook.send)
    #[arg(long)]
    pub origin: Option<String>,
    /// Only since this time (2026-03-01T10:00:00Z), or so long ago (2h)
    #[arg(long, value_parser = instant, value_name = "TIME")]
    pub since: Option<OffsetDateTime>,
    /// Only before this time, or so long ago
    #[arg(long, value_parser = instant, value_name = "TIME")]
    pub until: Option<OffsetDateTime>,
    /// Most deliveries to list
    #[arg(long, default_value_t = 50)]
    pub limit: u32,
    #[command(flatten)]
    pub list: ListArgs,
}

#[derive(ClapArgs)]
pub struct DeliveryArg {
    /// Its id, from `deliveries`
    pub id: DeliveryId,
    /// Print the body that was sent, and nothing else
    #[arg(long, conflicts_with = "json")]
    pub body: bool,
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Which events a replay sends again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WhichArg {
    /// Those whose delivery failed or was dropped
    Failed,
    /// Those it was never told: older than it, or it was disabled
    Missing,
    /// Every one that it wants
    All,
}

#[derive(ClapArgs)]
pub struct ResendArgs {
    /// The delivery to send again
    #[arg(required_unless_present = "subscription", conflicts_with_all = ["subscription", "since", "until", "which", "events", "dry_run"])]
    pub id: Option<DeliveryId>,
    /// Send many again, to this subscription (name or id)
    #[arg(long, requires = "since")]
    pub subscription: Option<String>,
    /// Events since this time (2026-03-01T10:00:00Z), or so long ago (2h)
    #[arg(long, value_parser = instant, value_name = "TIME")]
    pub since: Option<OffsetDateTime>,
    /// Events before this time, or so long ago [default: now]
    #[arg(long, value_parser = instant, value_name = "TIME")]
    pub until: Option<OffsetDateTime>,
    /// Which of them
    #[arg(long, value_enum, default_value = "failed")]
    pub which: WhichArg,
    /// Only events of this name; may be repeated
    #[arg(long = "event", value_name = "EVENT", value_delimiter = ',')]
    pub events: Vec<String>,
    /// Only count them
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_and_times_are_read_or_refused_with_an_example() {
        assert_eq!(schedule("default"), Ok(Schedule::Default));
        assert_eq!(schedule("none"), Ok(Schedule::Waits(Vec::new())));
        let waits = Schedule::Waits(vec![Duration::from_secs(5), Duration::from_secs(300)]);
        assert_eq!(schedule("5s, 5m"), Ok(waits));
        assert!(schedule("5").unwrap_err().contains("5s,30s"));
        let hour = instant("1h").unwrap();
        let passed = OffsetDateTime::now_utc() - hour;
        assert!((3599..3700).contains(&passed.whole_seconds()));
        assert!(instant("2026-03-01T10:00:00Z").is_ok());
        assert!(instant("yesterday").unwrap_err().contains("2h"));
    }
}
