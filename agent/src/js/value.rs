//! Reading JavaScript values without trusting them.

use rquickjs::{Ctx, Error, Exception, Function, Object, Result, String as JsString, Type, Value};

/// Bytes an argument as a whole may have unless its own limit is smaller.
pub(super) const MAX_TEXT_BYTES: usize = 16 << 20;

/// The text of a JavaScript string; lone surrogates become U+FFFD.
pub(super) fn text(string: &JsString<'_>) -> Result<String> {
    match string.to_string() {
        Err(Error::Utf8(_)) => {
            let ctx = string.ctx();
            let prototype: Object = ctx.globals().get::<_, Object>("String")?.get("prototype")?;
            let well_formed: Function = prototype.get("toWellFormed")?;
            let repaired: JsString =
                well_formed.call((rquickjs::function::This(string.clone()),))?;
            repaired.to_string()
        }
        other => other,
    }
}

/// Takes the exception behind `error`. What nobody may catch (the interrupt) is passed on as `Err`.
pub(super) fn caught<'js>(ctx: &Ctx<'js>, error: Error) -> Result<Value<'js>> {
    if !matches!(error, Error::Exception) {
        // A conversion error of the binding: give it the form of a JavaScript one.
        let thrown = Exception::throw_type(ctx, &error.to_string());
        debug_assert!(thrown.is_exception());
    }
    let value = ctx.catch();
    if value.is_uncatchable_error() {
        return Err(ctx.throw(value));
    }
    Ok(value)
}

/// What the author would call it.
pub(super) fn type_name(value: &Value<'_>) -> &'static str {
    match value.type_of() {
        Type::Undefined | Type::Uninitialized => "undefined",
        Type::Null => "null",
        Type::Bool => "a boolean",
        Type::Int | Type::Float => "a number",
        Type::String => "a string",
        Type::Symbol => "a symbol",
        Type::BigInt => "a bigint",
        Type::Array => "an array",
        Type::Function | Type::Constructor => "a function",
        Type::Promise => "a promise (is an await missing?)",
        _ => "an object",
    }
}

/// Neither `undefined` nor `null`.
pub(super) fn is_given(value: &Value<'_>) -> bool {
    !(value.is_undefined() || value.is_null())
}

/// Whether it is an `ArrayBuffer` or a view of one.
pub(super) fn is_binary(value: &Value<'_>) -> bool {
    value.as_object().is_some_and(|object| {
        object.is_array_buffer()
            || object.is_typed_array::<u8>()
            || object.is_typed_array::<i8>()
            || object.is_typed_array::<u16>()
            || object.is_typed_array::<i16>()
            || object.is_typed_array::<u32>()
            || object.is_typed_array::<i32>()
            || object.is_typed_array::<f32>()
            || object.is_typed_array::<f64>()
            || object.is_typed_array::<u64>()
            || object.is_typed_array::<i64>()
    })
}

/// Reads a buffer as a string with one character a byte; the engine offers no other safe way to the bytes.
const BYTES_TO_LATIN1: &str = "(value, limit) => {
  const view = value instanceof ArrayBuffer ? new Uint8Array(value) : new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  if (view.length > limit) return view.length;
  let text = '';
  for (let at = 0; at < view.length; at += 8192) text += String.fromCharCode.apply(null, view.subarray(at, at + 8192));
  return text;
}";

/// The bytes of a value for which [`is_binary`] holds; `Err(length)` when there are more than `limit`.
pub(super) fn bytes<'js>(
    ctx: &Ctx<'js>,
    value: &Value<'js>,
    limit: usize,
) -> Result<std::result::Result<Vec<u8>, usize>> {
    let read: Function = ctx.eval(BYTES_TO_LATIN1)?;
    let read: Value = read.call((value.clone(), limit as f64))?;
    if let Some(length) = read.as_number() {
        return Ok(Err(length as usize));
    }
    let latin1 = read.get::<JsString>()?.to_string()?;
    // The author may have replaced String.fromCharCode; then the bytes are the author's own joke.
    Ok(Ok(latin1
        .chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?'))
        .collect()))
}

/// Defines a property that cannot be changed but is seen by enumeration.
pub(super) fn constant<'js, V>(object: &Object<'js>, name: &str, value: V) -> Result<()>
where
    V: rquickjs::IntoJs<'js>,
{
    object.prop(name, rquickjs::object::Property::from(value).enumerable())
}
