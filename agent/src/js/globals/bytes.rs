//! Text and bytes: UTF-8, Latin-1, Base64.

use crate::js::value::{MAX_TEXT_BYTES, bytes as binary, is_binary, text};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use rquickjs::{Ctx, Exception, Function, Object, Result, String as JsString, TypedArray, Value};

/// What `atob` takes: with or without padding (WHATWG's forgiving decode).
const FORGIVING: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// windows-1252, which the web means by Latin-1: what 0x80 to 0x9F stand for.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// The bytes of an argument that must be binary.
pub(super) fn argument<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> Result<Vec<u8>> {
    if !is_binary(value) {
        return Err(Exception::throw_type(
            ctx,
            "a Uint8Array or an ArrayBuffer is expected",
        ));
    }
    binary(ctx, value, MAX_TEXT_BYTES)?.map_err(|length| {
        Exception::throw_range(
            ctx,
            &format!("{length} bytes are more than {MAX_TEXT_BYTES}"),
        )
    })
}

/// A fresh array of these bytes.
pub(super) fn array<'js>(ctx: &Ctx<'js>, bytes: Vec<u8>) -> Result<TypedArray<'js, u8>> {
    TypedArray::new(ctx.clone(), bytes)
}

/// `utf8`, `text`, `atob`, `btoa`.
pub(super) fn install<'js>(ctx: &Ctx<'js>, host: &Object<'js>) -> Result<()> {
    let utf8 = |ctx: Ctx<'js>, string: JsString<'js>| array(&ctx, text(&string)?.into_bytes());
    host.set("utf8", Function::new(ctx.clone(), utf8)?)?;
    let decode = |ctx: Ctx<'js>, value: Value<'js>, encoding: String, fatal: bool| {
        let bytes = argument(&ctx, &value)?;
        if encoding != "utf-8" {
            return Ok(bytes.into_iter().map(windows_1252).collect());
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(text),
            Err(_) if fatal => Err(Exception::throw_type(
                &ctx,
                "TextDecoder: the bytes are no UTF-8",
            )),
            Err(error) => Ok(String::from_utf8_lossy(error.as_bytes()).into_owned()),
        }
    };
    host.set("text", Function::new(ctx.clone(), decode)?)?;
    let atob = |ctx: Ctx<'js>, base64: String| {
        let packed: String = base64
            .chars()
            .filter(|c| !matches!(c, ' ' | '\t' | '\n' | '\x0c' | '\r'))
            .collect();
        match FORGIVING.decode(packed) {
            Ok(bytes) => Ok(bytes.into_iter().map(char::from).collect::<String>()),
            Err(_) => Err(Exception::throw_type(&ctx, "atob: the text is no Base64")),
        }
    };
    host.set("atob", Function::new(ctx.clone(), atob)?)?;
    let btoa = |ctx: Ctx<'js>, string: JsString<'js>| {
        let bytes: std::result::Result<Vec<u8>, _> = text(&string)?
            .chars()
            .map(|c| u8::try_from(u32::from(c)))
            .collect();
        match bytes {
            Ok(bytes) => Ok(base64::engine::general_purpose::STANDARD.encode(bytes)),
            Err(_) => Err(Exception::throw_type(
                &ctx,
                "btoa: the text has characters beyond Latin-1; encode it with TextEncoder first",
            )),
        }
    };
    host.set("btoa", Function::new(ctx.clone(), btoa)?)
}

fn windows_1252(byte: u8) -> char {
    match byte {
        0x80..=0x9f => WINDOWS_1252[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}
