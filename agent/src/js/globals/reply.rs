//! The argument of `http.respond`, read and checked.
//!
//! Two kinds of wrong: a value of the wrong type is the author's bug at this line and throws a TypeError; a value that HTTP
//! forbids (often data, not code) is refused, noted in the log, and the caller gets [`invalid`].

use crate::js::host::Reply;
use crate::js::value::{bytes, is_binary, is_given, text, type_name};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, header};
use rquickjs::object::Filter;
use rquickjs::{Coerced, Ctx, Error, Exception, Object, Result, Value};

/// Largest body of a reply.
const MAX_BODY_BYTES: usize = 10 << 20;
/// Most header lines of a reply.
const MAX_HEADERS: usize = 100;
/// Names and values together.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// Headers that belong to the connection, not to the message (RFC 9110 §7.6.1): the server sets them itself.
const FORBIDDEN_HEADERS: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// What the caller gets instead of a refused reply.
pub(super) fn invalid() -> Reply {
    let body = r#"{"error":{"code":"invalid_reply","message":"the pipeline's answer was not a valid HTTP response; see the run's log"}}"#;
    Reply {
        status: 500,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: Bytes::from_static(body.as_bytes()),
    }
}

/// Reads the response. `Err` is a JavaScript exception, the inner one says what HTTP forbids.
pub(super) fn read<'js>(
    ctx: &Ctx<'js>,
    response: &Value<'js>,
) -> Result<std::result::Result<Reply, String>> {
    match read_parts(ctx, response) {
        Ok(reply) => Ok(Ok(reply)),
        Err(Wrong::Refused(wrong)) => Ok(Err(wrong)),
        Err(Wrong::Type(wrong)) => Err(Exception::throw_type(
            ctx,
            &format!("http.respond: {wrong}"),
        )),
        Err(Wrong::Thrown(error)) => Err(error),
    }
}

enum Wrong {
    Refused(String),
    Type(String),
    Thrown(Error),
}

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        Self::Thrown(error)
    }
}

type Read<T> = std::result::Result<T, Wrong>;

fn wrong_type(what: &str, expected: &str, got: &Value<'_>) -> Wrong {
    Wrong::Type(format!("{what} must be {expected}, got {}", type_name(got)))
}

fn read_parts<'js>(ctx: &Ctx<'js>, response: &Value<'js>) -> Read<Reply> {
    let Some(object) = response
        .as_object()
        .filter(|_| !response.is_array() && !response.is_function())
    else {
        return Err(wrong_type("the response", "an object", response));
    };
    let status = read_status(&object.get("status")?);
    // Types first, whatever HTTP thinks of the status: a TypeError is not hidden by a refusal.
    let (body, content_type) = match status {
        Err(Wrong::Type(_)) => (Ok(Bytes::new()), None),
        _ => match base64_body(&object)? {
            Some(body) => (body, None),
            None => read_body(ctx, &object.get("body")?)?,
        },
    };
    let status = status?;
    let mut headers = read_headers(&object.get("headers")?)?;
    if let Some(content_type) = content_type
        && !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
    {
        headers.push(("content-type".to_owned(), content_type.to_owned()));
    }
    Ok(Reply {
        status,
        headers,
        body: body.map_err(Wrong::Refused)?,
    })
}

fn read_status(status: &Value<'_>) -> Read<u16> {
    if !is_given(status) {
        return Ok(200);
    }
    let Some(number) = status.as_number() else {
        return Err(wrong_type("status", "a number", status));
    };
    if number == 0.0 {
        return Ok(200); // as if it were missing
    }
    if number.fract() != 0.0 || !(200.0..=599.0).contains(&number) {
        return Err(Wrong::Refused(format!(
            "status {number} is not a whole number from 200 to 599"
        )));
    }
    Ok(number as u16)
}

/// `bodyBase64`: the bytes of the body, for those who have them as text.
fn base64_body(object: &Object<'_>) -> Read<Option<std::result::Result<Bytes, String>>> {
    let value: Value = object.get("bodyBase64")?;
    if !is_given(&value) {
        return Ok(None);
    }
    let Some(string) = value.as_string() else {
        return Err(wrong_type("bodyBase64", "a string", &value));
    };
    if is_given(&object.get("body")?) {
        let message = "give either body or bodyBase64, not both";
        return Err(Wrong::Type(message.to_owned()));
    }
    let text = text(string)?;
    if text.len() / 4 * 3 > MAX_BODY_BYTES + 3 {
        let told = format!("the body has more than {MAX_BODY_BYTES} bytes");
        return Ok(Some(Err(told)));
    }
    let decoded = STANDARD.decode(text.trim());
    Ok(Some(match decoded {
        Ok(bytes) if bytes.len() > MAX_BODY_BYTES => Err(format!(
            "the body has {} bytes, more than {MAX_BODY_BYTES}",
            bytes.len()
        )),
        Ok(bytes) => Ok(Bytes::from(bytes)),
        Err(_) => return Err(Wrong::Type("bodyBase64 is no Base64".to_owned())),
    }))
}

type Body = (std::result::Result<Bytes, String>, Option<&'static str>);

/// The body and the content type it asks for; too large a one is the inner `Err`.
fn read_body<'js>(ctx: &Ctx<'js>, body: &Value<'js>) -> Read<Body> {
    let too_large = |length: usize| {
        Err(format!(
            "the body has {length} bytes, more than {MAX_BODY_BYTES}"
        ))
    };
    let limited = |text: String| {
        if text.len() > MAX_BODY_BYTES {
            too_large(text.len())
        } else {
            Ok(Bytes::from(text))
        }
    };
    if !is_given(body) {
        return Ok((Ok(Bytes::new()), None));
    }
    if let Some(string) = body.as_string() {
        return Ok((limited(text(string)?), None));
    }
    if is_binary(body) {
        let read = bytes(ctx, body, MAX_BODY_BYTES)?;
        return Ok((read.map(Bytes::from).or_else(too_large), None));
    }
    if !body.is_object() || body.is_function() {
        return Err(wrong_type("body", "a string, bytes or an object", body));
    }
    match ctx.json_stringify(body.clone())? {
        Some(json) => Ok((limited(text(&json)?), Some("application/json"))),
        None => Err(Wrong::Type("body cannot be written as JSON".to_owned())),
    }
}

fn read_headers(headers: &Value<'_>) -> Read<Vec<(String, String)>> {
    let mut read = Vec::new();
    if !is_given(headers) {
        return Ok(read);
    }
    let Some(object) = headers
        .as_object()
        .filter(|_| !headers.is_array() && !headers.is_function())
    else {
        return Err(wrong_type("headers", "an object", headers));
    };
    let mut size = 0;
    for name in own_names(object)? {
        let value: Value = object.get(name.as_str())?;
        let values = match value.as_array() {
            Some(array) => {
                let most = array.len().min(MAX_HEADERS + 1);
                (0..most)
                    .map(|index| array.get(index))
                    .collect::<Result<Vec<Value>>>()?
            }
            None if is_given(&value) => vec![value],
            None => Vec::new(),
        };
        for value in values {
            let value = header_value(&name, &value)?;
            size += name.len() + value.len();
            if read.len() == MAX_HEADERS || size > MAX_HEADER_BYTES {
                return Err(Wrong::Refused(format!(
                    "more than {MAX_HEADERS} headers or {MAX_HEADER_BYTES} bytes of them"
                )));
            }
            read.push((name.clone(), value));
        }
    }
    Ok(read)
}

fn own_names(object: &Object<'_>) -> Result<Vec<String>> {
    // One more than allowed, so that too many are seen without reading a million.
    object
        .own_keys::<String>(Filter::new().string().enum_only())
        .take(MAX_HEADERS + 1)
        .collect()
}

fn header_value(name: &str, value: &Value<'_>) -> Read<String> {
    let value = if let Some(string) = value.as_string() {
        text(string)?
    } else if value.is_number() {
        value.get::<Coerced<String>>()?.0
    } else {
        return Err(wrong_type(
            &format!("header {name:?}"),
            "a string or a number",
            value,
        ));
    };
    let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
        return Err(Wrong::Refused(format!("{name:?} is not a header name")));
    };
    if FORBIDDEN_HEADERS.contains(&parsed) {
        return Err(Wrong::Refused(format!(
            "the header {parsed} is the server's own"
        )));
    }
    let legal =
        |c: char| c == '\t' || (' '..='~').contains(&c) || ('\u{a0}'..='\u{ff}').contains(&c);
    if !value.chars().all(legal) {
        // Not the value itself: it may be a secret.
        return Err(Wrong::Refused(format!(
            "the value of header {parsed} has a line end or another illegal character"
        )));
    }
    Ok(value)
}
