//! `server`: how subscribers are told what happens.

use clap::Args as ClapArgs;
use pocketci_agent::outside::guard::Allowed;
use pocketci_server::deliveries::{DEFAULT_CONCURRENCY, DeliverySettings, default_schedule};
use std::time::Duration;

/// Longest single wait of a schedule.
const MAX_WAIT: Duration = Duration::from_secs(7 * 24 * 3600);

#[derive(ClapArgs, Clone)]
pub struct DeliveryArgs {
    /// A private host, HOST:PORT or network that deliveries to subscribers may reach; may be repeated, * is all
    #[arg(
        long = "delivery-allow",
        env = "CI_DELIVERY_ALLOW",
        value_delimiter = ',',
        value_name = "ADDRESS"
    )]
    pub delivery_allow: Vec<Allowed>,
    /// Deliveries to subscribers at once, half of them at most to receivers that failed last; as many again may wait for an answer for over half a second
    #[arg(long, env = "CI_DELIVERY_CONCURRENCY", default_value_t = DEFAULT_CONCURRENCY as u32, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub delivery_concurrency: u32,
    /// Waits before further tries of a delivery, where its subscription says nothing [default: 5s,30s,5m,30m,2h,5h,10h,14h,20h,24h]
    #[arg(long, env = "CI_DELIVERY_SCHEDULE", value_delimiter = ',', value_parser = wait, value_name = "DURATIONS")]
    pub delivery_schedule: Vec<Duration>,
    /// Leave deliveries to other servers of the same database
    #[arg(long, env = "CI_NO_DELIVERIES")]
    pub no_deliveries: bool,
}

impl DeliveryArgs {
    /// As the server takes them.
    pub fn settings(&self, external_url: Option<String>) -> DeliverySettings {
        DeliverySettings {
            enabled: !self.no_deliveries,
            allow: self.delivery_allow.clone(),
            concurrency: self.delivery_concurrency as usize,
            schedule: match self.delivery_schedule.is_empty() {
                true => default_schedule(),
                false => self.delivery_schedule.clone(),
            },
            external_url,
            ..DeliverySettings::default()
        }
    }
}

fn wait(text: &str) -> Result<Duration, String> {
    let wait = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match wait <= MAX_WAIT {
        true => Ok(wait),
        false => Err("at most 7days: nobody waits longer for what happened".to_owned()),
    }
}
