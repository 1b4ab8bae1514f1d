//! `pocketci gates …`.

use crate::args::{GateDecideArgs, GatesCommand, GatesLsArgs};
use crate::client::{Client, user};
use crate::output::{exit, json, table};
use pocketci_proto::api::{DecideGate, Gate};
use reqwest::Method;
use time::format_description::well_known::Rfc3339;

pub async fn run(command: GatesCommand) -> anyhow::Result<u8> {
    match command {
        GatesCommand::Ls(args) => ls(args).await,
        GatesCommand::Approve(args) => decide(args, "approve").await,
        GatesCommand::Reject(args) => decide(args, "reject").await,
    }
}

async fn ls(args: GatesLsArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let mut query = vec![("all", args.all.to_string())];
    query.extend(args.run.map(|run| ("run", run.to_string())));
    let gates: Vec<Gate> = client.get(&["api", "gates"], &query).await?;
    if args.json {
        json(&gates)?;
        return Ok(exit::OK);
    }
    let rows: Vec<Vec<String>> = gates
        .into_iter()
        .map(|gate| {
            vec![
                gate.id.to_string(),
                gate.pipeline,
                gate.name,
                gate.status,
                gate.decided_by,
                gate.expires_at.format(&Rfc3339).unwrap_or_default(),
                gate.message,
            ]
        })
        .collect();
    table(
        &[
            "ID", "PIPELINE", "GATE", "STATUS", "BY", "EXPIRES", "MESSAGE",
        ],
        &rows,
    )?;
    Ok(exit::OK)
}

async fn decide(args: GateDecideArgs, verb: &str) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let request = DecideGate {
        by: Some(args.by.unwrap_or_else(user)),
        comment: args.comment,
    };
    let gate: Gate = client
        .send(Method::POST, &["api", "gates", &args.gate, verb], &request)
        .await?;
    if args.json {
        json(&gate)?;
    } else {
        println!(
            "gate {:?} of pipeline {:?} {} by {}",
            gate.name, gate.pipeline, gate.status, gate.decided_by
        );
    }
    Ok(exit::OK)
}
