//! `pocketci agents …`.

use crate::args::{AgentsCommand, ListArgs, TokenCommand, TokenCreateArgs};
use crate::client::Client;
use crate::output::{exit, json, table};
use pocketci_proto::api::{Agent, AgentToken, CreateAgentToken};
use reqwest::Method;

pub async fn run(command: AgentsCommand) -> anyhow::Result<u8> {
    match command {
        AgentsCommand::Ls(args) => ls(args).await,
        AgentsCommand::Token(TokenCommand::Create(args)) => create(args).await,
        AgentsCommand::Token(TokenCommand::Ls(args)) => tokens(args).await,
        AgentsCommand::Token(TokenCommand::Rm(args)) => {
            let client = Client::new(&args.connection)?;
            client
                .act(Method::DELETE, &["api", "agent-tokens", &args.id])
                .await?;
            println!("token {} revoked", args.id);
            Ok(exit::OK)
        }
    }
}

async fn ls(args: ListArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let agents: Vec<Agent> = client.get(&["api", "agents"], &[]).await?;
    if args.json {
        json(&agents)?;
        return Ok(exit::OK);
    }
    let rows: Vec<Vec<String>> = agents
        .into_iter()
        .map(|agent| {
            let labels: Vec<String> = agent
                .labels
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            vec![
                agent.name,
                agent.status,
                agent.slots.to_string(),
                agent.drivers.join(","),
                labels.join(","),
                agent.version,
            ]
        })
        .collect();
    table(
        &["NAME", "STATUS", "SLOTS", "DRIVERS", "LABELS", "VERSION"],
        &rows,
    )?;
    Ok(exit::OK)
}

async fn create(args: TokenCreateArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let request = CreateAgentToken { name: args.name };
    let token: AgentToken = client
        .send(Method::POST, &["api", "agent-tokens"], &request)
        .await?;
    if args.json {
        json(&token)?;
    } else {
        println!("{}", token.token);
        eprintln!(
            "note: it is shown this once; start an agent with: pocketci agent --server URL --token TOKEN"
        );
    }
    Ok(exit::OK)
}

async fn tokens(args: ListArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let tokens: Vec<serde_json::Value> = client.get(&["api", "agent-tokens"], &[]).await?;
    if args.json {
        json(&tokens)?;
        return Ok(exit::OK);
    }
    let field =
        |token: &serde_json::Value, name: &str| token[name].as_str().unwrap_or_default().to_owned();
    let rows: Vec<Vec<String>> = tokens
        .iter()
        .map(|token| {
            vec![
                field(token, "id"),
                field(token, "name"),
                field(token, "created_at"),
            ]
        })
        .collect();
    table(&["ID", "NAME", "CREATED"], &rows)?;
    Ok(exit::OK)
}
