//! Answers of the host as JavaScript values.

use super::host::{Answer, Failure, RunResult};
use rquickjs::{Ctx, Object, Result, TypedArray, Value};

/// Last characters of a failed step's stderr that its error quotes.
const QUOTED_CHARS: usize = 400;

/// What the promise resolves to.
pub(super) fn value<'js>(ctx: &Ctx<'js>, answer: Answer) -> Result<Value<'js>> {
    match answer {
        Answer::Nothing => Ok(Value::new_undefined(ctx.clone())),
        Answer::Json(json) => ctx.json_parse(json.to_string()),
        Answer::Run(result) => Ok(run_result(ctx, result)?.into_value()),
        Answer::Blob { head, body } => {
            let value: Value = ctx.json_parse(head.to_string())?;
            if let Some(object) = value.as_object() {
                object.set("body", TypedArray::<u8>::new(ctx.clone(), Vec::from(body))?)?;
            }
            Ok(value)
        }
    }
}

/// The step ended by itself with code 0.
pub(super) fn is_well(result: &RunResult) -> bool {
    result.code == 0 && result.status == "complete"
}

fn run_result<'js>(ctx: &Ctx<'js>, result: RunResult) -> Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    object.set("code", result.code)?;
    object.set("stdout", result.stdout)?;
    object.set("stderr", result.stderr)?;
    object.set("status", result.status)?;
    object.set("startedAt", result.started_at)?;
    object.set("endedAt", result.ended_at)?;
    object.set("durationMs", result.duration_ms as f64)?;
    object.set("attempts", result.attempts)?;
    Ok(object)
}

/// What `failOnError` rejects with; `error` was made where the step was started.
pub(super) fn step_error<'js>(
    ctx: &Ctx<'js>,
    error: Object<'js>,
    result: RunResult,
) -> Result<Object<'js>> {
    let mut message = match result.status {
        "abort" => "the step was stopped before its end".to_owned(),
        _ => format!("the step ended with exit code {}", result.code),
    };
    let stderr = result.stderr.trim_end();
    if !stderr.is_empty() {
        let skip = stderr.chars().count().saturating_sub(QUOTED_CHARS);
        let tail: String = stderr.chars().skip(skip).collect();
        message.push_str(&format!("; its stderr ends with:\n{tail}"));
    }
    error.set("name", "StepError")?;
    error.set("message", message)?;
    error.set("result", run_result(ctx, result)?)?;
    Ok(error)
}

/// `error` with what the failure says.
pub(super) fn error<'js>(
    ctx: &Ctx<'js>,
    error: Object<'js>,
    failure: &Failure,
) -> Result<Object<'js>> {
    if failure.name != "Error" {
        error.set("name", failure.name)?;
    }
    error.set("message", failure.message.as_str())?;
    if let Some(detail) = failure.detail.as_object() {
        for (name, value) in detail {
            error.set(name.as_str(), ctx.json_parse(value.to_string())?)?;
        }
    }
    Ok(error)
}
