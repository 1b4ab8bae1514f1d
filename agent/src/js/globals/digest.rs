//! Hashes, HMAC and randomness, by ring.

use super::bytes::{argument, array};
use crate::js::shared::Shared;
use ring::{digest, hmac};
use rquickjs::{Ctx, Exception, Function, Object, Result, Value};
use std::rc::Rc;

fn hash(name: &str) -> &'static digest::Algorithm {
    match name {
        "SHA-1" => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        "SHA-384" => &digest::SHA384,
        "SHA-512" => &digest::SHA512,
        _ => &digest::SHA256,
    }
}

fn mac(name: &str) -> hmac::Algorithm {
    match name {
        "SHA-1" => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        "SHA-384" => hmac::HMAC_SHA384,
        "SHA-512" => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    }
}

/// `digest`, `hmac`, `random`, `uuid`; names of hashes were checked by the prelude.
pub(super) fn install<'js>(
    ctx: &Ctx<'js>,
    shared: &Rc<Shared<'js>>,
    host: &Object<'js>,
) -> Result<()> {
    let digest = |ctx: Ctx<'js>, name: String, data: Value<'js>| {
        let made = digest::digest(hash(&name), &argument(&ctx, &data)?);
        array(&ctx, made.as_ref().to_vec())
    };
    host.set("digest", Function::new(ctx.clone(), digest)?)?;
    let hmac = |ctx: Ctx<'js>, name: String, key: Value<'js>, data: Value<'js>| {
        let key = hmac::Key::new(mac(&name), &argument(&ctx, &key)?);
        array(
            &ctx,
            hmac::sign(&key, &argument(&ctx, &data)?).as_ref().to_vec(),
        )
    };
    host.set("hmac", Function::new(ctx.clone(), hmac)?)?;
    let this = Rc::clone(shared);
    let random = move |ctx: Ctx<'js>, length: f64| {
        let mut bytes = vec![0; (length as usize).min(65_536)];
        fill(&ctx, &this, &mut bytes)?;
        array(&ctx, bytes)
    };
    host.set("random", Function::new(ctx.clone(), random)?)?;
    let this = Rc::clone(shared);
    let uuid = move |ctx: Ctx<'js>| -> Result<String> {
        let mut bytes = [0; 16];
        fill(&ctx, &this, &mut bytes)?;
        Ok(uuid::Builder::from_random_bytes(bytes)
            .into_uuid()
            .to_string())
    };
    host.set("uuid", Function::new(ctx.clone(), uuid)?)
}

/// `Math.random`: from the job's own seed, as everything random is, so that another attempt draws the same.
pub(super) fn install_math<'js>(ctx: &Ctx<'js>, shared: &Rc<Shared<'js>>) -> Result<()> {
    let this = Rc::clone(shared);
    let random = move |ctx: Ctx<'js>| -> Result<f64> {
        let mut bytes = [0; 8];
        fill(&ctx, &this, &mut bytes)?;
        // The 53 bits that a number between 0 and 1 has.
        Ok((u64::from_be_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64)
    };
    let math: Object = ctx.globals().get("Math")?;
    math.set(
        "random",
        Function::new(ctx.clone(), random)?.with_name("random")?,
    )
}

fn fill<'js>(ctx: &Ctx<'js>, shared: &Shared<'js>, bytes: &mut [u8]) -> Result<()> {
    let filled = shared.random(bytes);
    filled.ok_or_else(|| {
        Exception::throw_message(ctx, "crypto: the system has no randomness to give")
    })
}

/// The id of a run's `number`th outgoing webhook with this content: the same when the job is attempted again.
pub(super) fn delivery_id(run_id: &str, content: &str, number: u64) -> String {
    let made = digest::digest(
        &digest::SHA256,
        format!("webhook.send {run_id} {number} {content}").as_bytes(),
    );
    format!("msg_{}", hex::encode(&made.as_ref()[..16]))
}
