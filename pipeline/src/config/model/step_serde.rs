//! The JSON of the types whose form depends on the value: steps by their keys, choices that are a word or a map.

use super::step::{Core, MaxInFlight, Modifiers, Step};
use super::steps::{PutInputs, VersionChoice};
use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// Keys of modifiers. `timeout` is one only where the core has none of its own.
const MODIFIER_KEYS: [&str; 8] = [
    "across",
    "fail_fast",
    "attempts",
    "on_success",
    "on_failure",
    "on_error",
    "on_abort",
    "ensure",
];

impl Core {
    /// The key that tells the kind.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Get(_) => "get",
            Self::Put(_) => "put",
            Self::Task(_) => "task",
            Self::SetPipeline(_) => "set_pipeline",
            Self::LoadVar(_) => "load_var",
            Self::Run(_) => "run",
            Self::Do(_) => "do",
            Self::InParallel(_) => "in_parallel",
            Self::Try(_) => "try",
            Self::Notify(_) => "notify",
            Self::Gate(_) => "gate",
            Self::BuildImage(_) => "build_image",
            Self::Agent(_) => "agent",
        }
    }

    /// Whether `timeout` is a field of the kind's own and not a wrapper around it.
    pub fn has_own_timeout(key: &str) -> bool {
        matches!(key, "get" | "put" | "task" | "run" | "gate")
    }

    fn to_value(&self) -> serde_json::Result<Value> {
        match self {
            Self::Get(step) => serde_json::to_value(step),
            Self::Put(step) => serde_json::to_value(step),
            Self::Task(step) => serde_json::to_value(step),
            Self::SetPipeline(step) => serde_json::to_value(step),
            Self::LoadVar(step) => serde_json::to_value(step),
            Self::Run(step) => serde_json::to_value(step),
            Self::Do(step) => serde_json::to_value(step),
            Self::InParallel(step) => serde_json::to_value(step),
            Self::Try(step) => serde_json::to_value(step),
            Self::Notify(step) => serde_json::to_value(step),
            Self::Gate(step) => serde_json::to_value(step),
            Self::BuildImage(step) => serde_json::to_value(step),
            Self::Agent(step) => serde_json::to_value(step),
        }
    }

    fn from_map(key: &str, map: Map<String, Value>) -> serde_json::Result<Self> {
        fn read<T: DeserializeOwned>(map: Map<String, Value>) -> serde_json::Result<T> {
            serde_json::from_value(Value::Object(map))
        }
        Ok(match key {
            "task" => Self::Task(read(map)?),
            "put" => Self::Put(read(map)?),
            "get" => Self::Get(read(map)?),
            "run" => Self::Run(read(map)?),
            "set_pipeline" => Self::SetPipeline(read(map)?),
            "load_var" => Self::LoadVar(read(map)?),
            "try" => Self::Try(read(map)?),
            "do" => Self::Do(read(map)?),
            "in_parallel" => Self::InParallel(read(map)?),
            "agent" => Self::Agent(read(map)?),
            "build_image" => Self::BuildImage(read(map)?),
            "notify" => Self::Notify(read(map)?),
            "gate" => Self::Gate(read(map)?),
            other => return Err(serde::de::Error::custom(format!("no step kind {other:?}"))),
        })
    }
}

/// Keys of step kinds, in the order in which they are looked for (Concourse's, then PocketCI's).
pub const CORE_KEYS: [&str; 13] = [
    "run",
    "task",
    "put",
    "get",
    "set_pipeline",
    "load_var",
    "try",
    "do",
    "in_parallel",
    "agent",
    "build_image",
    "notify",
    "gate",
];

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all = match self.core.to_value().map_err(S::Error::custom)? {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        if let Value::Object(more) =
            serde_json::to_value(&self.modifiers).map_err(S::Error::custom)?
        {
            all.extend(more);
        }
        all.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut core = Map::<String, Value>::deserialize(deserializer)?;
        let key = CORE_KEYS
            .into_iter()
            .find(|key| core.contains_key(*key))
            .ok_or_else(|| D::Error::custom("a step of no known kind"))?;
        let mut modifiers = Map::new();
        let timeout = (!Core::has_own_timeout(key)).then_some("timeout");
        for key in MODIFIER_KEYS.into_iter().chain(timeout) {
            if let Some((key, value)) = core.remove_entry(key) {
                modifiers.insert(key, value);
            }
        }
        let modifiers: Modifiers =
            serde_json::from_value(Value::Object(modifiers)).map_err(D::Error::custom)?;
        let core = Core::from_map(key, core).map_err(D::Error::custom)?;
        Ok(Self { core, modifiers })
    }
}

impl Serialize for VersionChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Latest => serializer.serialize_str("latest"),
            Self::Every => serializer.serialize_str("every"),
            Self::Pinned(version) => version.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for VersionChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(word) if word == "every" => Ok(Self::Every),
            Value::String(_) => Ok(Self::Latest),
            other => serde_json::from_value(other)
                .map(Self::Pinned)
                .map_err(D::Error::custom),
        }
    }
}

impl Serialize for PutInputs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::Detect => serializer.serialize_str("detect"),
            Self::Named(names) => names.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for PutInputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(word) if word == "all" => Ok(Self::All),
            Value::String(word) if word == "detect" => Ok(Self::Detect),
            other => serde_json::from_value(other)
                .map(Self::Named)
                .map_err(D::Error::custom),
        }
    }
}

impl Serialize for MaxInFlight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::Limit(limit) => serializer.serialize_i64(*limit),
        }
    }
}

impl<'de> Deserialize<'de> for MaxInFlight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(word) if word == "all" => Ok(Self::All),
            other => serde_json::from_value(other)
                .map(Self::Limit)
                .map_err(D::Error::custom),
        }
    }
}
