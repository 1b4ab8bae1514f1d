//! The top of a pipeline: everything but jobs.

use super::fields::{Fields, Manner, list};
use super::{Decoder, job, pocketci};
use crate::config::model::{
    Config, Display, Group, Params, Resource, ResourceType, VarSource, Version,
};
use crate::config::tree::{Kind, Node};
use crate::duration;

/// Reads the root.
pub fn config(decoder: &mut Decoder, root: &Node, strict: bool) -> Config {
    let Some(mut fields) = Fields::open(decoder, root, "", Manner::Loose) else {
        return Config::default();
    };
    let config = Config {
        groups: each(decoder, &mut fields, "groups", group),
        var_sources: each(decoder, &mut fields, "var_sources", var_source),
        resources: each(decoder, &mut fields, "resources", resource),
        resource_types: each(decoder, &mut fields, "resource_types", resource_type),
        prototypes: each(decoder, &mut fields, "prototypes", resource_type),
        jobs: each(decoder, &mut fields, "jobs", job::job),
        display: display(decoder, &mut fields),
        user_data: fields
            .some("user_data")
            .map(Node::to_value)
            .unwrap_or_default(),
        max_in_flight: top_count(decoder, &mut fields, "max_in_flight"),
        notifications: top_params(decoder, &mut fields, "notifications"),
        assert: fields
            .some("assert")
            .and_then(|node| pocketci::assert(decoder, node, "assert")),
        on: pocketci::listens(decoder, &mut fields),
    };
    if strict {
        for entry in fields.left() {
            decoder.fault("", entry.at, format!("unknown field {:?}", entry.key));
        }
    }
    config
}

type Read<T> = fn(&mut Decoder, Fields<'_>) -> T;

/// The things of a section. Each has the path `section.name`, or `section[i]` without a name.
fn each<T>(decoder: &mut Decoder, fields: &mut Fields<'_>, section: &str, read: Read<T>) -> Vec<T> {
    let Some(node) = fields.some(section) else {
        return Vec::new();
    };
    let mut things = Vec::new();
    for (i, item) in list(decoder, node, section).iter().enumerate() {
        let path = path_of(section, i, item);
        decoder.places.insert(format!("{section}[{i}]"), item.at);
        decoder.places.entry(path.clone()).or_insert(item.at);
        if let Some(fields) = Fields::open(decoder, item, path, Manner::Loose) {
            things.push(read(decoder, fields));
        }
    }
    things
}

fn path_of(section: &str, index: usize, item: &Node) -> String {
    let name = item
        .get("name")
        .or_else(|| item.get("Name"))
        .filter(|name| !matches!(name.kind, Kind::List(_) | Kind::Map(_)))
        .map(super::scalars::env_text)
        .filter(|name| !name.is_empty());
    match name {
        Some(name) => format!("{section}.{name}"),
        None => format!("{section}[{index}]"),
    }
}

fn top_count(decoder: &mut Decoder, fields: &mut Fields<'_>, key: &str) -> Option<u32> {
    fields.count(decoder, key)
}

fn top_params(decoder: &mut Decoder, fields: &mut Fields<'_>, key: &str) -> Params {
    fields.params(decoder, key)
}

fn display(decoder: &mut Decoder, fields: &mut Fields<'_>) -> Option<Display> {
    let node = fields.some("display")?;
    decoder.places.insert("display".to_owned(), node.at);
    let mut fields = Fields::open(decoder, node, "display", Manner::Loose)?;
    let display = Display {
        background_image: fields.text(decoder, "background_image"),
        background_filter: fields.text(decoder, "background_filter"),
    };
    fields.refuse_unknown(decoder);
    Some(display)
}

fn group(decoder: &mut Decoder, mut fields: Fields<'_>) -> Group {
    let group = Group {
        name: fields.text(decoder, "name"),
        jobs: fields.texts(decoder, "jobs"),
        resources: fields.texts(decoder, "resources"),
    };
    fields.refuse_unknown(decoder);
    group
}

fn var_source(decoder: &mut Decoder, mut fields: Fields<'_>) -> VarSource {
    let source = VarSource {
        name: fields.text(decoder, "name"),
        type_name: fields.text(decoder, "type"),
        config: fields
            .some("config")
            .map(Node::to_value)
            .unwrap_or_default(),
    };
    fields.refuse_unknown(decoder);
    source
}

fn resource(decoder: &mut Decoder, mut fields: Fields<'_>) -> Resource {
    let resource = Resource {
        name: fields.text(decoder, "name"),
        old_name: fields.text(decoder, "old_name"),
        public: fields.flag(decoder, "public"),
        webhook_token: fields.text(decoder, "webhook_token"),
        type_name: fields.text(decoder, "type"),
        source: fields.params(decoder, "source"),
        check_every: check_every(decoder, &mut fields),
        check_timeout: fields.text(decoder, "check_timeout"),
        tags: fields.texts(decoder, "tags"),
        version: version(decoder, &mut fields),
        icon: fields.text(decoder, "icon"),
        expose_build_created_by: fields.flag(decoder, "expose_build_created_by"),
    };
    fields.refuse_unknown(decoder);
    resource
}

fn resource_type(decoder: &mut Decoder, mut fields: Fields<'_>) -> ResourceType {
    let resource_type = ResourceType {
        name: fields.text(decoder, "name"),
        type_name: fields.text(decoder, "type"),
        source: fields.params(decoder, "source"),
        defaults: fields.params(decoder, "defaults"),
        privileged: fields.flag(decoder, "privileged"),
        check_every: check_every(decoder, &mut fields),
        tags: fields.texts(decoder, "tags"),
        params: fields.params(decoder, "params"),
    };
    fields.refuse_unknown(decoder);
    resource_type
}

/// A pinned version; no fields is no pin.
fn version(decoder: &mut Decoder, fields: &mut Fields<'_>) -> Option<Version> {
    fields
        .text_map(decoder, "version")
        .filter(|version| !version.is_empty())
}

fn check_every(decoder: &mut Decoder, fields: &mut Fields<'_>) -> String {
    let Some(node) = fields.some("check_every") else {
        return String::new();
    };
    let path = fields.path_of("check_every");
    let Kind::Text(text) = &node.kind else {
        decoder.expected(&path, node, "a duration such as 1m, or never");
        return String::new();
    };
    if !matches!(text.as_str(), "" | "never")
        && let Err(error) = duration::parse_go_nanos(text)
    {
        decoder.fault(&path, node.at, error.to_string());
    }
    text.clone()
}
