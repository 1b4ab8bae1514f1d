//! The arguments of `console.log` as one text, with printf-like directives as in Node.

use super::Program;
use super::inspect::{MAX_LINE_BYTES, inspect};
use super::value::{caught, text};
use rquickjs::{Ctx, Result, Type, Value};

/// All arguments of `console.log`, with `%s %d %i %f %j %o %O %c %%` in the first one.
pub(super) fn format<'js>(
    ctx: &Ctx<'js>,
    program: &Program,
    arguments: &[Value<'js>],
) -> Result<String> {
    let mut line = String::new();
    let mut rest = arguments;
    if let Some((first, others)) = arguments.split_first()
        && let Some(template) = first.as_string()
    {
        rest = others;
        let template = text(template).unwrap_or_default();
        let mut parts = template.split('%');
        line.push_str(parts.next().unwrap_or_default());
        let mut literal = false;
        for part in parts {
            let mut chars = part.chars();
            let directive = if literal { None } else { chars.next() };
            literal = false;
            match (directive, rest.split_first()) {
                // `%%`: the empty part before the second sign; what follows that sign is plain text.
                (None, _) if part.is_empty() => {
                    line.push('%');
                    literal = true;
                }
                (Some(kind), Some((argument, others))) if "sdifjoOc".contains(kind) => {
                    rest = others;
                    line.push_str(&substitute(ctx, program, kind, argument)?);
                    line.push_str(chars.as_str());
                }
                (Some(_), _) => {
                    line.push('%');
                    line.push_str(part);
                }
                (None, _) => line.push_str(part),
            }
        }
    }
    for (index, argument) in rest.iter().enumerate() {
        if index > 0 || rest.len() < arguments.len() {
            line.push(' ');
        }
        line.push_str(&plain(ctx, program, argument)?);
        if line.len() > MAX_LINE_BYTES {
            break;
        }
    }
    if line.len() > MAX_LINE_BYTES {
        line.truncate(line.floor_char_boundary(MAX_LINE_BYTES));
        line.push_str("… (cut)");
    }
    Ok(line)
}

/// Strings as they are, the rest inspected.
fn plain<'js>(ctx: &Ctx<'js>, program: &Program, value: &Value<'js>) -> Result<String> {
    match value.as_string() {
        Some(string) => Ok(text(string).unwrap_or_default()),
        None => inspect(ctx, program, value),
    }
}

fn substitute<'js>(
    ctx: &Ctx<'js>,
    program: &Program,
    kind: char,
    value: &Value<'js>,
) -> Result<String> {
    let number = || {
        value
            .as_number()
            .or_else(|| text(value.as_string()?).ok()?.trim().parse().ok())
    };
    Ok(match kind {
        's' => plain(ctx, program, value)?,
        'c' => String::new(), // CSS, in browsers
        'd' | 'i' | 'f' => match number() {
            _ if value.type_of() == Type::BigInt => inspect(ctx, program, value)?,
            Some(number) if kind == 'i' => number.trunc().to_string(),
            Some(number) => number.to_string(),
            None => "NaN".to_owned(),
        },
        'j' => match ctx.json_stringify(value.clone()) {
            Ok(Some(json)) => text(&json).unwrap_or_default(),
            Ok(None) => "undefined".to_owned(),
            Err(error) => {
                caught(ctx, error)?;
                "[not JSON]".to_owned()
            }
        },
        _ => inspect(ctx, program, value)?,
    })
}
