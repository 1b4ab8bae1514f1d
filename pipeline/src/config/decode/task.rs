//! The `task` step and the task's own configuration.

use super::Decoder;
use super::fields::{Fields, Manner, list};
use crate::config::model::{
    ContainerLimits, ImageResource, TaskAssert, TaskCache, TaskConfig, TaskInput, TaskOutput,
    TaskRun, TaskStep,
};
use crate::config::tree::{Kind, Node};
use crate::duration;

/// Shortest life of a cache that Concourse allows, in nanoseconds.
const MIN_CACHE_TTL_NANOS: i64 = 1_000_000_000;

/// Reads a `task` step.
pub fn step(decoder: &mut Decoder, fields: &mut Fields<'_>) -> TaskStep {
    let config_path = fields.path_of("config");
    TaskStep {
        name: fields.text(decoder, "task"),
        privileged: fields.flag(decoder, "privileged"),
        hermetic: fields.flag(decoder, "hermetic"),
        file: fields.text(decoder, "file"),
        uri: fields.text(decoder, "uri"),
        config: fields
            .some("config")
            .and_then(|node| config(decoder, node, &config_path)),
        container_limits: limits(decoder, fields, "container_limits"),
        params: fields.env(decoder, "params"),
        vars: fields.params(decoder, "vars"),
        tags: fields.texts(decoder, "tags"),
        input_mapping: fields
            .text_map(decoder, "input_mapping")
            .unwrap_or_default(),
        output_mapping: fields
            .text_map(decoder, "output_mapping")
            .unwrap_or_default(),
        image: fields.text(decoder, "image"),
        timeout: fields.optional_text(decoder, "timeout"),
        parallelism: fields.count(decoder, "parallelism"),
        assert: assert(decoder, fields),
    }
}

fn assert(decoder: &mut Decoder, fields: &mut Fields<'_>) -> Option<TaskAssert> {
    let node = fields.some("assert")?;
    let path = fields.path_of("assert");
    let mut fields = Fields::open(decoder, node, path, Manner::Strict)?;
    let assert = TaskAssert {
        code: fields
            .whole(decoder, "code")
            .and_then(|code| i32::try_from(code).ok()),
        stdout: fields.text(decoder, "stdout"),
        stderr: fields.text(decoder, "stderr"),
    };
    fields.refuse_unknown(decoder);
    Some(assert)
}

/// Reads a task's configuration.
pub fn config(decoder: &mut Decoder, node: &Node, path: &str) -> Option<TaskConfig> {
    let mut fields = Fields::open(decoder, node, path, Manner::Strict)?;
    let mut params = fields.env(decoder, "params");
    params.extend(fields.env(decoder, "env"));
    let config = TaskConfig {
        platform: fields.text(decoder, "platform"),
        rootfs_uri: fields.text(decoder, "rootfs_uri"),
        image_resource: image_resource(decoder, &mut fields),
        image: fields.text(decoder, "image"),
        container_limits: either_limits(decoder, &mut fields),
        params,
        run: run(decoder, &mut fields),
        inputs: inputs(decoder, &mut fields),
        outputs: outputs(decoder, &mut fields),
        caches: caches(decoder, &mut fields),
    };
    fields.refuse_unknown(decoder);
    Some(config)
}

fn image_resource(decoder: &mut Decoder, fields: &mut Fields<'_>) -> Option<ImageResource> {
    let node = fields.some("image_resource")?;
    let path = fields.path_of("image_resource");
    let mut fields = Fields::open(decoder, node, path, Manner::Strict)?;
    let image = ImageResource {
        type_name: fields.text(decoder, "type"),
        source: fields.params(decoder, "source"),
        params: fields.params(decoder, "params"),
        version: fields
            .text_map(decoder, "version")
            .filter(|version| !version.is_empty()),
        tags: fields.texts(decoder, "tags"),
    };
    // Concourse's own name of a declared image, without effect here.
    let _ = fields.take("name");
    fields.refuse_unknown(decoder);
    Some(image)
}

fn run(decoder: &mut Decoder, fields: &mut Fields<'_>) -> Option<TaskRun> {
    let node = fields.some("run")?;
    let path = fields.path_of("run");
    let mut fields = Fields::open(decoder, node, path, Manner::Strict)?;
    let run = TaskRun {
        path: fields.text(decoder, "path"),
        args: fields.texts(decoder, "args"),
        dir: fields.text(decoder, "dir"),
        user: fields.text(decoder, "user"),
    };
    fields.refuse_unknown(decoder);
    Some(run)
}

/// Reads each item of a list under a key.
fn items<'n, T>(
    decoder: &mut Decoder,
    fields: &mut Fields<'n>,
    key: &str,
    read: impl Fn(&mut Decoder, &mut Fields<'n>) -> T,
) -> Vec<T> {
    let Some(node) = fields.some(key) else {
        return Vec::new();
    };
    let path = fields.path_of(key);
    let mut all = Vec::new();
    for (i, item) in list(decoder, node, &path).iter().enumerate() {
        let path = format!("{path}[{i}]");
        if let Some(mut fields) = Fields::open(decoder, item, path, Manner::Strict) {
            all.push(read(decoder, &mut fields));
            fields.refuse_unknown(decoder);
        }
    }
    all
}

/// Reads `inputs`.
pub fn inputs(decoder: &mut Decoder, fields: &mut Fields<'_>) -> Vec<TaskInput> {
    items(decoder, fields, "inputs", |decoder, fields| TaskInput {
        name: fields.text(decoder, "name"),
        path: fields.text(decoder, "path"),
        optional: fields.flag(decoder, "optional"),
        size_gb: fields.count(decoder, "size_gb").map(u64::from),
    })
}

fn outputs(decoder: &mut Decoder, fields: &mut Fields<'_>) -> Vec<TaskOutput> {
    items(decoder, fields, "outputs", |decoder, fields| TaskOutput {
        name: fields.text(decoder, "name"),
        path: fields.text(decoder, "path"),
        size_gb: fields.count(decoder, "size_gb").map(u64::from),
    })
}

/// Reads `caches`.
pub fn caches(decoder: &mut Decoder, fields: &mut Fields<'_>) -> Vec<TaskCache> {
    items(decoder, fields, "caches", |decoder, fields| TaskCache {
        path: fields.text(decoder, "path"),
        ttl: cache_ttl(decoder, fields),
        scope: cache_scope(decoder, fields),
        size_gb: fields.count(decoder, "size_gb").map(u64::from),
    })
}

fn cache_ttl(decoder: &mut Decoder, fields: &mut Fields<'_>) -> Option<String> {
    let node = fields.some("ttl")?;
    let path = fields.path_of("ttl");
    let Kind::Text(text) = &node.kind else {
        decoder.expected(&path, node, "a duration such as 24h");
        return None;
    };
    if text.is_empty() {
        return None;
    }
    match duration::parse_go_nanos(text) {
        Ok(nanos) if nanos < MIN_CACHE_TTL_NANOS => {
            decoder.fault(
                &path,
                node.at,
                format!("cache ttl must be at least 1s, got '{text}'"),
            );
        }
        Ok(_) => {}
        Err(_) if text.contains("((") => {}
        Err(error) => {
            decoder.fault(
                &path,
                node.at,
                format!("invalid cache ttl '{text}': {error}"),
            );
        }
    }
    Some(text.clone())
}

fn cache_scope(decoder: &mut Decoder, fields: &mut Fields<'_>) -> String {
    let Some(node) = fields.some("scope") else {
        return String::new();
    };
    match &node.kind {
        Kind::Text(scope) if matches!(scope.as_str(), "" | "job" | "task") => scope.clone(),
        _ => {
            decoder.fault(
                &fields.path_of("scope"),
                node.at,
                "expected \"job\" or \"task\"",
            );
            String::new()
        }
    }
}

/// Reads `container_limits` and PocketCI's `limits`; the latter wins where it says something.
pub fn either_limits(decoder: &mut Decoder, fields: &mut Fields<'_>) -> Option<ContainerLimits> {
    let of_concourse = limits(decoder, fields, "container_limits");
    let own = limits(decoder, fields, "limits");
    own.filter(|limits| *limits != ContainerLimits::default())
        .or(of_concourse)
}

/// Reads limits under a key.
pub fn limits(
    decoder: &mut Decoder,
    fields: &mut Fields<'_>,
    key: &str,
) -> Option<ContainerLimits> {
    let node = fields.some(key)?;
    let path = fields.path_of(key);
    let mut fields = Fields::open(decoder, node, path, Manner::Strict)?;
    let limits = ContainerLimits {
        cpu: cpu(decoder, &mut fields),
        memory: memory(decoder, &mut fields),
        cpu_kind: fields.text(decoder, "cpu_kind"),
    };
    fields.refuse_unknown(decoder);
    Some(limits)
}

/// CPU shares; a fraction is cut off.
fn cpu(decoder: &mut Decoder, fields: &mut Fields<'_>) -> Option<u64> {
    let node = fields.some("cpu")?;
    let value = node.to_value().as_f64().filter(|value| *value >= 0.0);
    if value.is_none() {
        let path = fields.path_of("cpu");
        decoder.fault(&path, node.at, "cpu limit must be an integer");
    }
    value.map(|value| value as u64)
}

fn memory(decoder: &mut Decoder, fields: &mut Fields<'_>) -> Option<u64> {
    let node = fields.some("memory")?;
    let bytes = match &node.kind {
        Kind::Text(text) => memory_bytes(text),
        Kind::Int(_) | Kind::Large(_) | Kind::Float(_) => node
            .to_value()
            .as_f64()
            .filter(|value| *value >= 0.0)
            .map(|value| value as u64),
        _ => None,
    };
    if bytes.is_none() {
        let path = fields.path_of("memory");
        decoder.fault(
            &path,
            node.at,
            "could not parse container memory limit: expected bytes, or a number with k, m or g",
        );
    }
    bytes
}

/// `<int>[k|m|g][i][b]` in any case; every unit is a power of 1024.
pub fn memory_bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let end = lower
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let shift = match unit {
        "" | "b" => 0,
        "k" | "ki" | "kb" | "kib" => 10,
        "m" | "mi" | "mb" | "mib" => 20,
        "g" | "gi" | "gb" | "gib" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}
