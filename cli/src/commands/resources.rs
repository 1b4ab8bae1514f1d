//! `pocketci resources`, `check-resource`, `resource-versions`, `pin-resource` and their like.

use super::logs;
use super::runs::moment;
use crate::args::{
    CheckResourceArgs, ResourceArg, ResourceVersionsArgs, ResourcesArgs, VersionArgs,
};
use crate::client::{Client, user};
use crate::output::{exit, json, table};
use pocketci_proto::api::{
    CheckRequest, Page, Resource, ResourceVersion, Triggered, Version, VersionRequest,
};
use reqwest::Method;

fn words(version: &Version) -> String {
    let fields: Vec<String> = version
        .iter()
        .map(|(field, value)| format!("{field}:{value}"))
        .collect();
    fields.join(",")
}

pub async fn list(args: ResourcesArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let path = ["api", "pipelines", &args.pipeline, "resources"];
    let resources: Vec<Resource> = client.get(&path, &[]).await?;
    if args.json {
        json(&resources)?;
        return Ok(exit::OK);
    }
    let dash = || "-".to_owned();
    let rows: Vec<Vec<String>> = resources
        .iter()
        .map(|resource| {
            let state = match (&resource.check_error, resource.checking) {
                (_, true) => "checking".to_owned(),
                (Some(error), _) => format!("failed: {error}"),
                (None, _) => resource.checked_at.map_or_else(dash, moment),
            };
            vec![
                resource.name.clone(),
                resource.kind.clone(),
                resource.newest.as_ref().map_or_else(dash, words),
                resource
                    .pin
                    .as_ref()
                    .map_or_else(dash, |pin| words(&pin.version)),
                state,
            ]
        })
        .collect();
    table(&["RESOURCE", "TYPE", "NEWEST", "PINNED", "CHECKED"], &rows)?;
    Ok(exit::OK)
}

pub async fn check(args: CheckResourceArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let request = CheckRequest {
        from: (!args.from.is_empty()).then(|| args.from.into_iter().collect()),
    };
    let (pipeline, name) = (&args.resource.pipeline, &args.resource.name);
    let path = ["api", "pipelines", pipeline, "resources", name, "check"];
    let triggered: Triggered = client.send(Method::POST, &path, &request).await?;
    let id = triggered.run_id.to_string();
    if args.r#async {
        println!("{id}");
        return Ok(exit::OK);
    }
    logs::follow(&client, &id, false).await
}

pub async fn versions(args: ResourceVersionsArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let (pipeline, name) = (&args.resource.pipeline, &args.resource.name);
    let path = ["api", "pipelines", pipeline, "resources", name, "versions"];
    let query = [("limit", args.count.to_string())];
    let page: Page<ResourceVersion> = client.get(&path, &query).await?;
    if args.json {
        json(&page)?;
        return Ok(exit::OK);
    }
    let rows: Vec<Vec<String>> = page
        .items
        .iter()
        .map(|found| {
            let state = match (found.pinned, found.enabled) {
                (true, _) => "pinned",
                (false, true) => "enabled",
                (false, false) => "disabled",
            };
            vec![
                words(&found.version),
                state.to_owned(),
                moment(found.first_seen_at),
            ]
        })
        .collect();
    table(&["VERSION", "STATE", "SEEN"], &rows)?;
    Ok(exit::OK)
}

/// What `pin-resource`, `enable-` and `disable-resource-version` ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Give jobs only this version.
    Pin,
    /// Let jobs have it.
    Enable,
    /// Give it to no job.
    Disable,
}

pub async fn act(args: VersionArgs, act: Act) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let version: Version = args.version.into_iter().collect();
    let request = VersionRequest {
        version: version.clone(),
        comment: args.comment,
        by: Some(args.by.unwrap_or_else(user)),
    };
    let (verb, method, done) = match act {
        Act::Pin => ("pin", Method::PUT, "pinned to"),
        Act::Enable => ("enable", Method::POST, "may be given"),
        Act::Disable => ("disable", Method::POST, "is not given any more"),
    };
    let (pipeline, name) = (&args.resource.pipeline, &args.resource.name);
    let path = ["api", "pipelines", pipeline, "resources", name, verb];
    let _: serde_json::Value = client.send(method, &path, &request).await?;
    println!("{pipeline}/{name} {done} {}", words(&version));
    Ok(exit::OK)
}

pub async fn unpin(args: ResourceArg) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let (pipeline, name) = (&args.resource.pipeline, &args.resource.name);
    let path = ["api", "pipelines", pipeline, "resources", name, "pin"];
    client.act(Method::DELETE, &path).await?;
    println!("{pipeline}/{name} unpinned");
    Ok(exit::OK)
}

pub async fn clear(args: ResourceArg) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let (pipeline, name) = (&args.resource.pipeline, &args.resource.name);
    let path = ["api", "pipelines", pipeline, "resources", name, "versions"];
    client.act(Method::DELETE, &path).await?;
    println!("{pipeline}/{name}: all versions are forgotten; the next check begins anew");
    Ok(exit::OK)
}
