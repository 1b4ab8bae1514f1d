//! Flags of `pocketci webhook …`.

use super::{Connection, ListArgs};
use clap::{Args as ClapArgs, Subcommand};

/// What can be done with webhook endpoints.
#[derive(Subcommand)]
pub enum WebhookCommand {
    /// Create a webhook endpoint or change one; prints its URL when it is new
    Put(Box<PutWebhookArgs>),
    /// Show an endpoint
    Get(WebhookArg),
    /// List endpoints
    Ls(ListArgs),
    /// Remove an endpoint; its receipts stay
    #[command(alias = "rm")]
    Delete(WebhookArg),
    /// Give an endpoint a new secret; the earlier one is taken for a while still
    Rotate(RotateWebhookArgs),
    /// Give an endpoint a new URL; the earlier one is taken for a while still
    RotateUuid(RotateUuidArgs),
}

#[derive(ClapArgs)]
pub struct PutWebhookArgs {
    /// Name of the endpoint
    pub name: String,
    #[command(flatten)]
    pub connection: Connection,
    /// The pipeline that its requests start
    #[arg(long, value_name = "NAME", conflicts_with = "event")]
    pub pipeline: Option<String>,
    /// The event whose listeners its requests start
    #[arg(long, value_name = "KEY")]
    pub event: Option<String>,
    /// Who sends: github, gitlab, slack, standard, token, url-secret, … [default: known by the headers]
    #[arg(long, value_name = "PROVIDER")]
    pub provider: Option<String>,
    /// Its only secret from now on; - reads stdin
    #[arg(
        long,
        env = "CI_WEBHOOK_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    pub secret: Option<String>,
    /// Take everybody's requests: no secret is asked for
    #[arg(long, conflicts_with = "secret")]
    pub no_auth: bool,
    /// An expression that lets a request through: it must give true
    #[arg(long, value_name = "EXPRESSION")]
    pub filter: Option<String>,
    /// An expression whose value names what happened: the same again starts nothing
    #[arg(long, value_name = "EXPRESSION")]
    pub dedup_key: Option<String>,
    /// Take requests again
    #[arg(long, conflicts_with = "disable")]
    pub enable: bool,
    /// Take no more requests: callers are told that there is nothing
    #[arg(long)]
    pub disable: bool,
    /// Other settings as a JSON object, for example '{"rate_per_minute": 60}'; null takes one back
    #[arg(long, value_name = "JSON")]
    pub settings: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct WebhookArg {
    /// Name or id of the endpoint
    pub name: String,
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct RotateWebhookArgs {
    /// Name or id of the endpoint
    pub name: String,
    #[command(flatten)]
    pub connection: Connection,
    /// The new secret; - reads stdin
    #[arg(
        long,
        env = "CI_WEBHOOK_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    pub secret: String,
    /// How long the earlier secrets are taken still
    #[arg(long, default_value = "1day", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub grace: std::time::Duration,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct RotateUuidArgs {
    /// Name or id of the endpoint
    pub name: String,
    #[command(flatten)]
    pub connection: Connection,
    /// How long the earlier URLs are taken still
    #[arg(long, default_value = "1day", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub grace: std::time::Duration,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
