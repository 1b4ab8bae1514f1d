//! Webhooks' receipts: finding them, looking at one, doing them again.

use super::Connection;
use clap::Args as ClapArgs;
use pocketci_proto::ids::{ReceiptId, RevisionId};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

/// A moment: RFC 3339, or how long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// At this time.
    At(OffsetDateTime),
    /// So long before now.
    Ago(Duration),
}

impl Moment {
    /// As a time.
    pub fn at(self) -> OffsetDateTime {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => OffsetDateTime::now_utc() - ago,
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ago) = humantime::parse_duration(text) {
            return Ok(Self::Ago(ago));
        }
        let at = OffsetDateTime::parse(text, &Rfc3339);
        at.map(Self::At).map_err(|_| {
            format!(
                "expected a time such as 2026-01-31T12:00:00Z, or how long ago (2h), got {text:?}"
            )
        })
    }
}

#[derive(ClapArgs)]
pub struct FilterArgs {
    /// Only for this pipeline (name or id)
    #[arg(long, short = 'p')]
    pub pipeline: Option<String>,
    /// Only those that came to this endpoint (name or id)
    #[arg(long)]
    pub endpoint: Option<String>,
    /// Only messages of this event
    #[arg(long, value_name = "KEY")]
    pub event: Option<String>,
    /// Only with this verdict, for example accepted, unauthorized, filtered, duplicate
    #[arg(long)]
    pub verdict: Option<String>,
    /// Only of this provider
    #[arg(long)]
    pub provider: Option<String>,
    /// Only of this kind, as the provider says
    #[arg(long, value_name = "TYPE")]
    pub event_type: Option<String>,
    /// Only with the provider's delivery id
    #[arg(long, value_name = "ID")]
    pub delivery: Option<String>,
    /// Only with this text in reason or URL
    #[arg(long, short = 's', value_name = "TEXT")]
    pub search: Option<String>,
    /// Not before this time (RFC 3339), or so long ago (2h)
    #[arg(long, value_name = "TIME")]
    pub since: Option<Moment>,
    /// Before this time (RFC 3339), or so long ago (10m)
    #[arg(long, value_name = "TIME")]
    pub until: Option<Moment>,
}

#[derive(ClapArgs)]
pub struct ReceiptsArgs {
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Only what was done again from this receipt
    #[arg(long, value_name = "RECEIPT")]
    pub replay_of: Option<ReceiptId>,
    /// At most so many, 1 to 200
    #[arg(long, short = 'n', default_value_t = 50)]
    pub limit: i64,
    /// Only those before this one
    #[arg(long, value_name = "RECEIPT")]
    pub after: Option<ReceiptId>,
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct ReceiptArgs {
    /// The receipt's id
    pub receipt: ReceiptId,
    /// Write the body, byte for byte, into this file instead ('-' is stdout)
    #[arg(long, value_name = "FILE")]
    pub body: Option<PathBuf>,
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct ReplayArgs {
    /// Receipts to do again, in this order; none asks for those that the filter finds, oldest first
    #[arg(value_name = "RECEIPT")]
    pub receipts: Vec<ReceiptId>,
    /// With this revision of the pipeline instead of its newest
    #[arg(long, value_name = "REVISION", requires = "receipts")]
    pub revision: Option<RevisionId>,
    /// Only say how many there are and what would become of them
    #[arg(long)]
    pub dry_run: bool,
    /// Go on with a replay that was broken off, as it was told then (with --after): nothing is started twice
    #[arg(long, value_name = "UUID")]
    pub wish: Option<Uuid>,
    /// Begin behind this receipt
    #[arg(long, value_name = "RECEIPT", conflicts_with = "receipts")]
    pub after: Option<ReceiptId>,
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Do again whatever was received, if no filter is given
    #[arg(long, conflicts_with = "receipts")]
    pub all: bool,
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON, a line for each receipt
    #[arg(long)]
    pub json: bool,
}
