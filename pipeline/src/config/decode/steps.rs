//! The own fields of each kind of step.

use super::fields::{Fields, Manner};
use super::scalars::text;
use super::{Decoder, step, task};
use crate::config::model::{
    AgentStep, BuildImage, BuildImageStep, Core, DoStep, GateStep, GetStep, InParallel,
    InParallelStep, LoadVarStep, NotifyStep, PutInputs, PutStep, RegistryLogin, RunStep,
    SetPipelineStep, Step, TryStep, VersionChoice,
};
use crate::config::tree::{Kind, Node};
use serde_json::Value;
use std::collections::BTreeMap;

/// Reads the fields of the kind `key`; `path` is the step's.
pub fn core(
    decoder: &mut Decoder,
    fields: &mut Fields<'_>,
    key: &'static str,
    path: &str,
) -> Option<Core> {
    Some(match key {
        "get" => Core::Get(get(decoder, fields)),
        "put" => Core::Put(put(decoder, fields)),
        "task" => Core::Task(Box::new(task::step(decoder, fields))),
        "run" => Core::Run(run(decoder, fields)),
        "set_pipeline" => Core::SetPipeline(set_pipeline(decoder, fields)),
        "load_var" => Core::LoadVar(LoadVarStep {
            name: fields.text(decoder, "load_var"),
            file: fields.text(decoder, "file"),
            format: fields.text(decoder, "format"),
            reveal: fields.flag(decoder, "reveal"),
        }),
        "try" => Core::Try(r#try(decoder, fields, path)?),
        "do" => Core::Do(DoStep {
            steps: fields
                .take("do")
                .map(|node| step::steps(decoder, node, &format!("{path}.do")))
                .unwrap_or_default(),
            tags: fields.texts(decoder, "tags"),
        }),
        "in_parallel" => Core::InParallel(InParallelStep {
            in_parallel: in_parallel(decoder, fields, path),
            tags: fields.texts(decoder, "tags"),
        }),
        "notify" => Core::Notify(notify(decoder, fields)),
        "gate" => Core::Gate(gate(decoder, fields)),
        "build_image" => Core::BuildImage(Box::new(BuildImageStep {
            build_image: build_image(decoder, fields)?,
        })),
        _ => Core::Agent(Box::new(agent(decoder, fields))),
    })
}

fn get(decoder: &mut Decoder, fields: &mut Fields<'_>) -> GetStep {
    GetStep {
        name: fields.text(decoder, "get"),
        resource: fields.text(decoder, "resource"),
        version: version_choice(decoder, fields),
        params: fields.params(decoder, "params"),
        passed: fields.texts(decoder, "passed"),
        trigger: fields.flag(decoder, "trigger"),
        tags: fields.texts(decoder, "tags"),
        timeout: fields.optional_text(decoder, "timeout"),
    }
}

/// Any other word means the latest, as in Concourse; a note says so.
fn version_choice(decoder: &mut Decoder, fields: &mut Fields<'_>) -> Option<VersionChoice> {
    let node = fields.some("version")?;
    let path = fields.path_of("version");
    match &node.kind {
        Kind::Text(word) => match word.as_str() {
            "latest" => Some(VersionChoice::Latest),
            "every" => Some(VersionChoice::Every),
            word => {
                if !word.contains("((") {
                    decoder.note(format!(
                        "{path}: {word:?} is neither latest nor every nor a map; the latest version is used"
                    ));
                }
                None
            }
        },
        Kind::Map(entries) => {
            let mut version = BTreeMap::new();
            for entry in entries {
                if let Kind::Text(text) = &entry.value.kind {
                    version.insert(entry.key.clone(), text.clone());
                } else {
                    let message = format!(
                        "the value of {} must be text (write it in quotes), not {}",
                        entry.key,
                        entry.value.told()
                    );
                    decoder.fault(&path, entry.value.at, message);
                }
            }
            (!version.is_empty()).then_some(VersionChoice::Pinned(version))
        }
        _ => {
            decoder.expected(&path, node, "latest, every or a map");
            None
        }
    }
}

fn put(decoder: &mut Decoder, fields: &mut Fields<'_>) -> PutStep {
    PutStep {
        name: fields.text(decoder, "put"),
        resource: fields.text(decoder, "resource"),
        params: fields.params(decoder, "params"),
        inputs: put_inputs(decoder, fields),
        tags: fields.texts(decoder, "tags"),
        get_params: fields.params(decoder, "get_params"),
        no_get: fields.flag(decoder, "no_get"),
        timeout: fields.optional_text(decoder, "timeout"),
    }
}

fn put_inputs(decoder: &mut Decoder, fields: &mut Fields<'_>) -> Option<PutInputs> {
    let node = fields.some("inputs")?;
    let path = fields.path_of("inputs");
    match &node.kind {
        Kind::Text(word) if word == "all" => Some(PutInputs::All),
        Kind::Text(word) if word == "detect" => Some(PutInputs::Detect),
        // Concourse takes any other word and gives the put nothing.
        Kind::Text(word) => {
            decoder.note(format!(
                "{path}: {word:?} is neither all nor detect nor a list; the put sees no artifact"
            ));
            Some(PutInputs::Named(Vec::new()))
        }
        Kind::List(items) => {
            let mut names = Vec::new();
            for (i, item) in items.iter().enumerate() {
                match &item.kind {
                    Kind::Text(name) => names.push(name.trim().to_owned()),
                    _ => decoder.expected(&format!("{path}[{i}]"), item, "text"),
                }
            }
            Some(PutInputs::Named(names))
        }
        _ => {
            decoder.expected(&path, node, "all, detect or a list");
            None
        }
    }
}

fn run(decoder: &mut Decoder, fields: &mut Fields<'_>) -> RunStep {
    RunStep {
        message: fields.text(decoder, "run"),
        type_name: fields.text(decoder, "type"),
        params: fields.params(decoder, "params"),
        privileged: fields.flag(decoder, "privileged"),
        tags: fields.texts(decoder, "tags"),
        container_limits: task::limits(decoder, fields, "container_limits"),
        timeout: fields.optional_text(decoder, "timeout"),
    }
}

fn set_pipeline(decoder: &mut Decoder, fields: &mut Fields<'_>) -> SetPipelineStep {
    SetPipelineStep {
        name: fields.text(decoder, "set_pipeline"),
        file: fields.text(decoder, "file"),
        team: fields.text(decoder, "team"),
        vars: fields.params(decoder, "vars"),
        var_files: fields.texts(decoder, "var_files"),
        instance_vars: fields.params(decoder, "instance_vars"),
    }
}

/// One step, or PocketCI's list of steps.
fn r#try(decoder: &mut Decoder, fields: &mut Fields<'_>, path: &str) -> Option<TryStep> {
    let node = fields.take("try")?;
    let path = format!("{path}.try");
    let step = match &node.kind {
        Kind::List(_) => Step::of(Core::Do(DoStep {
            steps: step::steps(decoder, node, &format!("{path}.do")),
            tags: Vec::new(),
        })),
        _ => step::step(decoder, node, &path)?,
    };
    Some(TryStep {
        step: Box::new(step),
    })
}

fn in_parallel(decoder: &mut Decoder, fields: &mut Fields<'_>, path: &str) -> InParallel {
    let path = format!("{path}.in_parallel");
    let steps_path = format!("{path}.steps");
    let Some(node) = fields.some("in_parallel") else {
        return InParallel::default();
    };
    match &node.kind {
        Kind::List(_) => InParallel {
            steps: step::steps(decoder, node, &steps_path),
            ..InParallel::default()
        },
        Kind::Map(_) => {
            let Some(mut fields) = Fields::open(decoder, node, path, Manner::Strict) else {
                return InParallel::default();
            };
            let in_parallel = InParallel {
                steps: fields
                    .take("steps")
                    .map(|node| step::steps(decoder, node, &steps_path))
                    .unwrap_or_default(),
                limit: fields.whole(decoder, "limit").unwrap_or(0),
                fail_fast: fields.flag(decoder, "fail_fast"),
            };
            fields.refuse_unknown(decoder);
            in_parallel
        }
        _ => {
            decoder.expected(&path, node, "a list of steps or a map with steps");
            InParallel::default()
        }
    }
}

fn notify(decoder: &mut Decoder, fields: &mut Fields<'_>) -> NotifyStep {
    let names = match fields.take("notify") {
        Some(Node {
            kind: Kind::List(_),
            ..
        }) => fields.texts(decoder, "notify"),
        Some(node) => {
            let path = fields.path_of("notify");
            let name = text(decoder, node, &path, Manner::Strict);
            Vec::from_iter((!name.is_empty()).then_some(name))
        }
        None => Vec::new(),
    };
    NotifyStep {
        names,
        message: fields.text(decoder, "message"),
        message_file: fields.text(decoder, "message_file"),
        is_async: fields.flag(decoder, "async"),
    }
}

/// `gate: name` with its fields beside it, or `gate: {name, message, timeout}`.
fn gate(decoder: &mut Decoder, fields: &mut Fields<'_>) -> GateStep {
    match fields.take("gate") {
        Some(
            node @ Node {
                kind: Kind::Map(_), ..
            },
        ) => {
            let path = fields.path_of("gate");
            let Some(mut inner) = Fields::open(decoder, node, path, Manner::Strict) else {
                return GateStep::default();
            };
            let gate = GateStep {
                name: inner.text(decoder, "name"),
                message: inner.text(decoder, "message"),
                timeout: inner.optional_text(decoder, "timeout"),
            };
            inner.refuse_unknown(decoder);
            gate
        }
        Some(node) => {
            let path = fields.path_of("gate");
            GateStep {
                name: text(decoder, node, &path, Manner::Strict),
                message: fields.text(decoder, "message"),
                timeout: fields.optional_text(decoder, "timeout"),
            }
        }
        None => GateStep::default(),
    }
}

fn build_image(decoder: &mut Decoder, fields: &mut Fields<'_>) -> Option<BuildImage> {
    let node = fields.take("build_image")?;
    let path = fields.path_of("build_image");
    let mut fields = Fields::open(decoder, node, path, Manner::Strict)?;
    let build = BuildImage {
        name: fields.text(decoder, "name"),
        context: fields.text(decoder, "context"),
        tag: fields.text(decoder, "tag"),
        dockerfile: fields.text(decoder, "dockerfile"),
        push: fields.flag(decoder, "push"),
        build_args: fields.env(decoder, "build_args"),
        target: fields.text(decoder, "target"),
        platforms: fields.texts(decoder, "platforms"),
        image: fields.text(decoder, "image"),
        inputs: task::inputs(decoder, &mut fields),
        caches: task::caches(decoder, &mut fields),
        env: fields.env(decoder, "env"),
        registry: registry(decoder, &mut fields),
        timeout: fields.duration(decoder, "timeout"),
        container_limits: task::either_limits(decoder, &mut fields),
    };
    fields.refuse_unknown(decoder);
    Some(build)
}

fn registry(decoder: &mut Decoder, fields: &mut Fields<'_>) -> Option<RegistryLogin> {
    let node = fields.some("registry")?;
    let path = fields.path_of("registry");
    let mut fields = Fields::open(decoder, node, path, Manner::Strict)?;
    let login = RegistryLogin {
        hostname: fields.text(decoder, "hostname"),
        username: fields.text(decoder, "username"),
        password: fields.text(decoder, "password"),
        insecure: fields.flag(decoder, "insecure"),
    };
    fields.refuse_unknown(decoder);
    Some(login)
}

/// Fields of an agent step that are kept as they are.
const AGENT_OPTIONS: [&str; 12] = [
    "llm",
    "thinking",
    "safety",
    "context_guard",
    "limits",
    "context",
    "validation",
    "memory",
    "tool_timeout",
    "output_schema",
    "tools",
    "description",
];

fn agent(decoder: &mut Decoder, fields: &mut Fields<'_>) -> AgentStep {
    let config_path = fields.path_of("config");
    AgentStep {
        name: fields.text(decoder, "agent"),
        prompt: fields.text(decoder, "prompt"),
        prompt_file: fields.text(decoder, "prompt_file"),
        model: fields.text(decoder, "model"),
        file: fields.text(decoder, "file"),
        uri: fields.text(decoder, "uri"),
        config: fields
            .some("config")
            .and_then(|node| task::config(decoder, node, &config_path)),
        options: AGENT_OPTIONS
            .into_iter()
            .filter_map(|key| Some((key.to_owned(), fields.some(key)?.to_value())))
            .collect::<BTreeMap<String, Value>>(),
    }
}
