//! `http.request()`: what is cheap as plain properties, what costs (bytes, JSON, forms, files) when it is looked at.
//!
//! The program may wait for bytes that are still at the server. They never change, so nothing of it is in a journal.

use super::{bytes, headers};
use crate::js::host::WebhookRequest;
use crate::js::shared::Shared;
use crate::webhook_body::WebhookFile;
use ::bytes::Bytes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pocketci_pipeline::payload::is_form;
use rquickjs::context::EvalOptions;
use rquickjs::{Array, Ctx, Exception, Function, Object, Result, TypedArray, Value};
use std::collections::BTreeMap;
use std::rc::Rc;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Adds what is made when it is looked at.
const PRELUDE: &str = include_str!("../prelude/request.js");

/// A fresh object each time: what the author does to one does not touch the next.
pub(super) fn new<'js>(
    ctx: &Ctx<'js>,
    shared: &Rc<Shared<'js>>,
    webhook: &WebhookRequest,
) -> Result<Value<'js>> {
    let request = Object::new(ctx.clone())?;
    request.set("provider", webhook.provider.as_str())?;
    request.set("eventType", webhook.event_type.as_str())?;
    request.set("method", webhook.method.as_str())?;
    request.set("url", webhook.url.as_str())?;
    request.set("headers", headers::new(ctx, &webhook.headers)?)?;
    if let Some(body) = webhook.body.here() {
        request.set("body", text(body))?;
    }
    request.set("query", headers::record(ctx, &webhook.query)?)?;
    let mut options = EvalOptions::default();
    options.filename = Some(format!("{}request", super::lazy::PRELUDE));
    let complete: Function = ctx.eval_with_options(PRELUDE, options)?;
    let more = more(ctx, webhook)?;
    complete.call((natives(ctx, shared)?, request, more))
}

/// UTF-8, or one character a byte: nothing is lost, `charCodeAt` gives the byte.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    }
}

/// What a sender may leave out.
fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// Plain properties beyond those of the seed.
fn more<'js>(ctx: &Ctx<'js>, webhook: &WebhookRequest) -> Result<Object<'js>> {
    let more = Object::new(ctx.clone())?;
    more.set("headersAll", headers_all(ctx, webhook)?)?;
    let query = url::form_urlencoded::parse(webhook.raw_query().as_bytes());
    more.set("queryAll", lists(ctx, query.into_owned())?)?;
    more.set("rawQuery", webhook.raw_query())?;
    more.set("contentType", webhook.content_type())?;
    more.set("deliveryId", given(&webhook.delivery_id))?;
    more.set(
        "attempt",
        Some(webhook.attempt).filter(|attempt| *attempt > 0),
    )?;
    more.set("verified", webhook.verified)?;
    more.set("secretId", given(&webhook.secret_id))?;
    more.set("remoteAddr", webhook.remote_addr.as_str())?;
    more.set("receivedAt", received_at(webhook.received_at_ms))?;
    let files = Array::new(ctx.clone())?;
    for (at, file) in webhook.files.iter().enumerate() {
        files.set(at, file_object(ctx, file)?)?;
    }
    more.set("files", files)?;
    let body = WebhookFile {
        name: "body".to_owned(),
        content_type: webhook.content_type().to_owned(),
        size: webhook.body.len(),
        sha256: hex::encode(&webhook.body_sha256),
        ..WebhookFile::default()
    };
    let body_file = file_object(ctx, &body)?;
    body_file.set("index", -1)?;
    more.set("bodyFile", body_file)?;
    Ok(more)
}

fn received_at(unix_ms: u64) -> Option<String> {
    let nanos = i128::from(unix_ms) * 1_000_000;
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?;
    (unix_ms > 0).then(|| at.format(&Rfc3339).ok()).flatten()
}

fn file_object<'js>(ctx: &Ctx<'js>, file: &WebhookFile) -> Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    object.set("index", file.index)?;
    object.set("name", file.name.as_str())?;
    object.set("filename", file.filename.as_str())?;
    object.set("contentType", file.content_type.as_str())?;
    object.set("size", file.size as f64)?;
    object.set("sha256", file.sha256.as_str())?;
    Ok(object)
}

fn headers_all<'js>(ctx: &Ctx<'js>, webhook: &WebhookRequest) -> Result<Object<'js>> {
    let several = |name: &str| {
        let mut lines = webhook.repeated_headers.iter();
        lines.any(|(repeated, _)| repeated == name)
    };
    let single = webhook.headers.iter().filter(|(name, _)| !several(name));
    let single = single.map(|(name, value)| (name.clone(), value.clone()));
    lists(ctx, single.chain(webhook.repeated_headers.iter().cloned()))
}

/// All values of each name, in order.
fn lists<'js>(
    ctx: &Ctx<'js>,
    pairs: impl Iterator<Item = (String, String)>,
) -> Result<Object<'js>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in pairs {
        all.entry(name).or_default().push(value);
    }
    let object = Object::new(ctx.clone())?;
    for (name, values) in all {
        headers::define(&object, name.as_str(), values)?;
    }
    Ok(object)
}

/// What the prelude asks for.
fn natives<'js>(ctx: &Ctx<'js>, shared: &Rc<Shared<'js>>) -> Result<Object<'js>> {
    let host = Object::new(ctx.clone())?;
    let this = Rc::clone(shared);
    let read = move |ctx: Ctx<'js>, index: i32| -> Result<TypedArray<'js, u8>> {
        let bytes = part(&ctx, &this, index)?;
        bytes::array(&ctx, bytes.into())
    };
    host.set("bytes", Function::new(ctx.clone(), read)?)?;
    let this = Rc::clone(shared);
    // Of the body nothing is lost; a file's text is UTF-8 as everywhere in the web.
    let read = move |ctx: Ctx<'js>, index: i32| -> Result<String> {
        let bytes = part(&ctx, &this, index)?;
        Ok(match index {
            ..0 => text(&bytes),
            _ => String::from_utf8_lossy(&bytes).into_owned(),
        })
    };
    host.set("text", Function::new(ctx.clone(), read)?)?;
    let this = Rc::clone(shared);
    let read =
        move |ctx: Ctx<'js>| Ok::<_, rquickjs::Error>(STANDARD.encode(part(&ctx, &this, -1)?));
    host.set("base64", Function::new(ctx.clone(), read)?)?;
    let this = Rc::clone(shared);
    let is_text = move |ctx: Ctx<'js>| {
        let body = part(&ctx, &this, -1)?;
        Ok::<_, rquickjs::Error>(std::str::from_utf8(&body).is_ok())
    };
    host.set("isText", Function::new(ctx.clone(), is_text)?)?;
    let this = Rc::clone(shared);
    let form = move |ctx: Ctx<'js>| form(&ctx, &this);
    host.set("form", Function::new(ctx.clone(), form)?)?;
    Ok(host)
}

/// The bytes of a file; of the whole body if the number is negative. Waits for them on the job's own thread.
fn part<'js>(ctx: &Ctx<'js>, shared: &Shared<'js>, index: i32) -> Result<Bytes> {
    let job = Rc::clone(&shared.job);
    let Some(webhook) = &job.webhook else {
        return Ok(Bytes::new());
    };
    let file = u32::try_from(index).ok();
    let file = file.and_then(|index| webhook.files.iter().find(|file| file.index == index));
    let reading = async {
        match file {
            Some(file) => webhook.body.file(webhook.content_type(), file).await,
            None if index < 0 => webhook.body.whole().await,
            None => Err("the request has no such file".to_owned()),
        }
    };
    let cancel = shared.watch.cancelled();
    let read = shared.runtime.block_on(async {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err("the run was stopped".to_owned()),
            read = reading => read,
        }
    });
    read.map_err(|why| Exception::throw_message(ctx, &format!("http.request: {why}")))
}

/// The fields of a form as lists, whichever way it was encoded; null if the body is none.
fn form<'js>(ctx: &Ctx<'js>, shared: &Shared<'js>) -> Result<Value<'js>> {
    let job = Rc::clone(&shared.job);
    let null = || Ok(Value::new_null(ctx.clone()));
    let Some(webhook) = &job.webhook else {
        return null();
    };
    if is_form(webhook.content_type()) {
        let body = part(ctx, shared, -1)?;
        let fields = url::form_urlencoded::parse(&body).into_owned();
        return Ok(lists(ctx, fields)?.into_value());
    }
    match crate::webhook_body::boundary(webhook.content_type()) {
        Ok(_) => Ok(lists(ctx, webhook.form.iter().cloned())?.into_value()),
        Err(_) => null(),
    }
}
