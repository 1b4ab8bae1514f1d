//! The argument of `runtime.run`, read and checked. Unknown properties are ignored, wrong types are named.

use super::units;
use crate::js::host::{FileMount, Pull, RegistryAuth, RunRequest};
use crate::js::value::{MAX_TEXT_BYTES, bytes, is_binary, is_given, text, type_name};
use bytes::Bytes;
use rquickjs::object::Filter;
use rquickjs::{Ctx, Error, Function, Object, Value};
use std::collections::BTreeMap;
use std::time::Duration;

/// Most arguments of a command, and most environment variables.
const MAX_ENTRIES: usize = 10_000;
/// Most retries of a step.
const MAX_RETRIES: u64 = 100;

/// Why there is no request.
pub(super) enum Wrong {
    /// In words, without `runtime.run: `.
    Value(String),
    /// The author's own getter threw.
    Thrown(Error),
}

/// What the author asked for.
pub(super) struct Parsed<'js> {
    pub request: RunRequest,
    pub on_output: Option<Function<'js>>,
    pub fail_on_error: bool,
}

type Read<T> = Result<T, Wrong>;

/// Reads the config.
pub(super) fn read<'js>(ctx: &Ctx<'js>, config: &Value<'js>) -> Read<Parsed<'js>> {
    let Some(config) = config
        .as_object()
        .filter(|_| !config.is_array() && !config.is_function())
    else {
        return Err(Wrong::Value(match is_given(config) {
            false => "an object is expected".to_owned(),
            true => format!("an object is expected, got {}", type_name(config)),
        }));
    };
    let mut size = Size(0);
    let command = object(config, "", "command")?;
    let limits = object(config, "", "containerLimits")?;
    let (path, args, user) = match &command {
        Some(command) => (
            string(command, "command.", "path", &mut size)?,
            strings(command, "command.", "args", &mut size)?,
            string(command, "command.", "user", &mut size)?,
        ),
        None => Default::default(),
    };
    let (cpu_shares, memory_bytes) = match &limits {
        Some(limits) => (cpu(limits)?, memory(limits)?),
        None => (0, 0),
    };
    let mounted = mounts(config, &mut size)?;
    let request = RunRequest {
        call: 0,
        content: [0; 32],
        name: string(config, "", "name", &mut size)?,
        image: string(config, "", "image", &mut size)?,
        path,
        args,
        user,
        env: env(config, &mut size)?,
        stdin: stdin(ctx, config)?,
        work_dir: string(config, "", "workDir", &mut size)?,
        cpu_shares,
        memory_bytes,
        privileged: boolean(config, "privileged")?.unwrap_or(false),
        timeout: timeout(config)?,
        mounts: mounted.0,
        files: mounted.1,
        pull: pull(config)?,
        registry_auth: registry_auth(config, &mut size)?,
        no_network: boolean(config, "network")? == Some(false),
        retries: retries(config)?,
        output: None,
    };
    Ok(Parsed {
        request,
        on_output: on_output(config)?,
        fail_on_error: boolean(config, "failOnError")?.unwrap_or(false),
    })
}

/// All texts of one request together, against a config that repeats one huge string ten thousand times.
struct Size(usize);

impl Size {
    fn add(&mut self, text: String) -> Read<String> {
        self.0 += text.len();
        if self.0 > MAX_TEXT_BYTES {
            return Err(Wrong::Value(format!(
                "command, env and names have more than {MAX_TEXT_BYTES} bytes; give large data as stdin"
            )));
        }
        if text.contains('\0') {
            return Err(Wrong::Value(
                "command, env and names must not contain a NUL character".to_owned(),
            ));
        }
        Ok(text)
    }
}

fn wrong(what: &str, expected: &str, got: &Value<'_>) -> Wrong {
    Wrong::Value(format!(
        "{what} must be {expected}, got {}",
        type_name(got).trim_start_matches("a ")
    ))
}

fn given<'js>(object: &Object<'js>, name: &str) -> Read<Option<Value<'js>>> {
    let value: Value = object.get(name)?;
    Ok(Some(value).filter(is_given))
}

fn object<'js>(parent: &Object<'js>, prefix: &str, name: &str) -> Read<Option<Object<'js>>> {
    let Some(value) = given(parent, name)? else {
        return Ok(None);
    };
    match value
        .as_object()
        .filter(|_| !value.is_array() && !value.is_function())
    {
        Some(object) => Ok(Some(object.clone())),
        None => Err(wrong(&format!("{prefix}{name}"), "an object", &value)),
    }
}

fn string(parent: &Object<'_>, prefix: &str, name: &str, size: &mut Size) -> Read<String> {
    let Some(value) = given(parent, name)? else {
        return Ok(String::new());
    };
    match value.as_string() {
        Some(string) => size.add(text(string)?),
        None => Err(wrong(&format!("{prefix}{name}"), "a string", &value)),
    }
}

fn boolean(parent: &Object<'_>, name: &str) -> Read<Option<bool>> {
    let Some(value) = given(parent, name)? else {
        return Ok(None);
    };
    match value.as_bool() {
        Some(read) => Ok(Some(read)),
        None => Err(wrong(name, "a boolean", &value)),
    }
}

fn strings(parent: &Object<'_>, prefix: &str, name: &str, size: &mut Size) -> Read<Vec<String>> {
    const EXPECTED: &str = "an array of strings";
    let what = format!("{prefix}{name}");
    let Some(value) = given(parent, name)? else {
        return Ok(Vec::new());
    };
    let Some(array) = value.as_array() else {
        return Err(wrong(&what, EXPECTED, &value));
    };
    if array.len() > MAX_ENTRIES {
        return Err(Wrong::Value(format!(
            "{what} has more than {MAX_ENTRIES} entries"
        )));
    }
    let mut read = Vec::with_capacity(array.len());
    for index in 0..array.len() {
        let item: Value = array.get(index)?;
        match item.as_string() {
            Some(string) => read.push(size.add(text(string)?)?),
            None => return Err(wrong(&format!("{what}[{index}]"), "a string", &item)),
        }
    }
    Ok(read)
}

fn env(config: &Object<'_>, size: &mut Size) -> Read<BTreeMap<String, String>> {
    let Some(env) = object(config, "", "env")? else {
        return Ok(BTreeMap::new());
    };
    let mut read = BTreeMap::new();
    for name in env.own_keys::<String>(Filter::new().string().enum_only()) {
        let name = name?;
        if read.len() == MAX_ENTRIES {
            return Err(Wrong::Value(format!(
                "env has more than {MAX_ENTRIES} entries"
            )));
        }
        if name.is_empty() || name.contains('=') {
            return Err(Wrong::Value(format!(
                "env: {name:?} cannot be the name of a variable"
            )));
        }
        let Some(value) = given(&env, &name)? else {
            continue;
        };
        let Some(value) = value.as_string() else {
            return Err(wrong(&format!("env.{name}"), "a string", &value));
        };
        let value = size.add(text(value)?)?;
        read.insert(size.add(name)?, value);
    }
    Ok(read)
}

fn stdin<'js>(ctx: &Ctx<'js>, config: &Object<'js>) -> Read<Option<Bytes>> {
    let Some(value) = given(config, "stdin")? else {
        return Ok(None);
    };
    let too_large = |length: usize| {
        Wrong::Value(format!(
            "stdin has {length} bytes, more than {MAX_TEXT_BYTES}"
        ))
    };
    let stdin = if let Some(string) = value.as_string() {
        text(string)?.into_bytes()
    } else if is_binary(&value) {
        bytes(ctx, &value, MAX_TEXT_BYTES)?.map_err(too_large)?
    } else {
        return Err(wrong("stdin", "a string or a Uint8Array", &value));
    };
    if stdin.len() > MAX_TEXT_BYTES {
        return Err(too_large(stdin.len()));
    }
    Ok(Some(Bytes::from(stdin)).filter(|stdin| !stdin.is_empty()))
}

fn timeout(config: &Object<'_>) -> Read<Option<Duration>> {
    let Some(value) = given(config, "timeout")? else {
        return Ok(None);
    };
    let (shown, read) = if let Some(string) = value.as_string() {
        let string = text(string)?;
        if string.is_empty() {
            return Ok(None);
        }
        let read = units::duration(&string);
        (
            format!("{:?}", string.chars().take(50).collect::<String>()),
            read,
        )
    } else if let Some(ms) = value.as_number() {
        (ms.to_string(), units::duration_ms(ms))
    } else {
        return Err(wrong(
            "timeout",
            "a duration such as \"90s\" or a number of milliseconds",
            &value,
        ));
    };
    match read {
        Some(timeout) => Ok(Some(timeout).filter(|timeout| !timeout.is_zero())),
        None => Err(Wrong::Value(format!(
            "timeout {shown} is not a duration: something like \"90s\", \"1h30m\", \"500ms\" or a number of \
             milliseconds is expected"
        ))),
    }
}

fn cpu(limits: &Object<'_>) -> Read<u64> {
    let Some(value) = given(limits, "cpu")? else {
        return Ok(0);
    };
    let Some(number) = value.as_number() else {
        return Err(wrong("containerLimits.cpu", "a number", &value));
    };
    whole(number).ok_or_else(|| {
        Wrong::Value(format!(
            "containerLimits.cpu must be a whole number of CPU shares, got {number}"
        ))
    })
}

fn memory(limits: &Object<'_>) -> Read<u64> {
    const EXPECTED: &str = "a number of bytes or a size such as \"512MB\"";
    let Some(value) = given(limits, "memory")? else {
        return Ok(0);
    };
    let (shown, read) = if let Some(number) = value.as_number() {
        (number.to_string(), whole(number))
    } else if let Some(string) = value.as_string() {
        let string = text(string)?;
        let read = units::size(&string);
        (
            format!("{:?}", string.chars().take(50).collect::<String>()),
            read,
        )
    } else {
        return Err(wrong("containerLimits.memory", EXPECTED, &value));
    };
    read.ok_or_else(|| {
        Wrong::Value(format!(
            "containerLimits.memory must be {EXPECTED}, got {shown}"
        ))
    })
}

/// A number JavaScript holds exactly.
fn whole(number: f64) -> Option<u64> {
    (number.fract() == 0.0 && (0.0..=9_007_199_254_740_991.0).contains(&number))
        .then_some(number as u64)
}

fn on_output<'js>(config: &Object<'js>) -> Read<Option<Function<'js>>> {
    let Some(value) = given(config, "onOutput")? else {
        return Ok(None);
    };
    match value.as_function() {
        Some(function) => Ok(Some(function.clone())),
        None => Err(wrong("onOutput", "a function", &value)),
    }
}

type Mounts = (BTreeMap<String, String>, BTreeMap<String, FileMount>);

/// Volumes and files by path; a volume is the object that `volumes.create` gave, or its name, a file one of the webhook's.
fn mounts(config: &Object<'_>, size: &mut Size) -> Read<Mounts> {
    let Some(mounts) = object(config, "", "mounts")? else {
        return Ok(Mounts::default());
    };
    let (mut read, mut files) = Mounts::default();
    for path in mounts.own_keys::<String>(Filter::new().string().enum_only()) {
        let path = path?;
        let what = format!("mounts[{path:?}]");
        if read.len() + files.len() == MAX_ENTRIES {
            return Err(Wrong::Value(format!(
                "mounts has more than {MAX_ENTRIES} entries"
            )));
        }
        if path.is_empty() || path.split('/').any(|part| part == "..") {
            return Err(Wrong::Value(format!(
                "{what}: a path without \"..\" is expected"
            )));
        }
        let Some(value) = given(&mounts, &path)? else {
            continue;
        };
        if let Some(file) = file_of(&value)? {
            files.insert(size.add(path)?, file);
            continue;
        }
        let volume = match (value.as_string(), value.as_object()) {
            (Some(name), _) => size.add(text(name)?)?,
            (None, Some(volume)) => string(volume, &format!("{what}."), "name", size)?,
            (None, None) => return Err(wrong(&what, "a volume", &value)),
        };
        if volume.is_empty() {
            return Err(Wrong::Value(format!("{what} names no volume")));
        }
        read.insert(size.add(path)?, volume);
    }
    let folder = |path: &String| path.rsplit_once('/').map(|(folder, _)| folder.to_owned());
    let taken = |path: &&String| folder(path).is_some_and(|folder| read.contains_key(&folder));
    if let Some(path) = files.keys().find(taken) {
        return Err(Wrong::Value(format!(
            "mounts[{path:?}]: a volume is mounted in the file's folder; give the file a folder of its own"
        )));
    }
    Ok((read, files))
}

/// What marks the files of the webhook's request.
pub(super) const FILE_MARK: &str = "$file";

/// The file of the webhook that an object stands for: the number of its part, or -1 for the whole body.
fn file_of(value: &Value<'_>) -> Read<Option<FileMount>> {
    let Some(object) = value.as_object() else {
        return Ok(None);
    };
    let mark: Value = object.get(FILE_MARK)?;
    Ok(mark.as_number().map(|index| match index < 0.0 {
        true => FileMount::Body,
        false => FileMount::Part(index as u32),
    }))
}

fn pull(config: &Object<'_>) -> Read<Pull> {
    const EXPECTED: &str = "\"missing\", \"always\" or \"never\"";
    let Some(value) = given(config, "pull")? else {
        return Ok(Pull::Missing);
    };
    let Some(word) = value.as_string() else {
        return Err(wrong("pull", EXPECTED, &value));
    };
    match text(word)?.as_str() {
        "missing" => Ok(Pull::Missing),
        "always" => Ok(Pull::Always),
        "never" => Ok(Pull::Never),
        other => Err(Wrong::Value(format!(
            "pull must be {EXPECTED}, got {:?}",
            other.chars().take(50).collect::<String>()
        ))),
    }
}

fn registry_auth(config: &Object<'_>, size: &mut Size) -> Read<Option<RegistryAuth>> {
    let Some(auth) = object(config, "", "registryAuth")? else {
        return Ok(None);
    };
    Ok(Some(RegistryAuth {
        username: string(&auth, "registryAuth.", "username", size)?,
        password: string(&auth, "registryAuth.", "password", size)?,
        registry: string(&auth, "registryAuth.", "registry", size)?,
    }))
}

fn retries(config: &Object<'_>) -> Read<u32> {
    let Some(value) = given(config, "retries")? else {
        return Ok(0);
    };
    let Some(number) = value.as_number() else {
        return Err(wrong("retries", "a number", &value));
    };
    let read = whole(number).filter(|number| *number <= MAX_RETRIES);
    read.map(|number| number as u32).ok_or_else(|| {
        Wrong::Value(format!(
            "retries must be a whole number up to {MAX_RETRIES}, got {number}"
        ))
    })
}
