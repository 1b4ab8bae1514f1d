//! URLs by the `url` crate, in the parts that JavaScript's `URL` shows.

use rquickjs::{Ctx, Exception, Function, Object, Result, Value};
use url::{Url, form_urlencoded, quirks};

/// `urlParse`, `urlSet`, `formParse`, `formEncode`.
pub(super) fn install<'js>(ctx: &Ctx<'js>, host: &Object<'js>) -> Result<()> {
    let parse = |ctx: Ctx<'js>, text: String, base: Option<String>| -> Result<Value<'js>> {
        let base = match base.map(|base| Url::parse(&base)).transpose() {
            Ok(base) => base,
            Err(_) => return Ok(Value::new_null(ctx)),
        };
        match Url::options().base_url(base.as_ref()).parse(&text) {
            Ok(url) => Ok(parts(&ctx, &url)?.into_value()),
            Err(_) => Ok(Value::new_null(ctx)),
        }
    };
    host.set("urlParse", Function::new(ctx.clone(), parse)?)?;
    let set = |ctx: Ctx<'js>, href: String, part: String, value: String| {
        let Ok(mut url) = Url::parse(&href) else {
            return Err(Exception::throw_type(&ctx, "Invalid URL"));
        };
        // A value that does not fit changes nothing, as the standard says.
        let _ = match part.as_str() {
            "protocol" => quirks::set_protocol(&mut url, &value),
            "username" => quirks::set_username(&mut url, &value),
            "password" => quirks::set_password(&mut url, &value),
            "host" => quirks::set_host(&mut url, &value),
            "hostname" => quirks::set_hostname(&mut url, &value),
            "port" => quirks::set_port(&mut url, &value),
            "pathname" => {
                quirks::set_pathname(&mut url, &value);
                Ok(())
            }
            "search" => {
                quirks::set_search(&mut url, &value);
                Ok(())
            }
            _ => {
                quirks::set_hash(&mut url, &value);
                Ok(())
            }
        };
        parts(&ctx, &url)
    };
    host.set("urlSet", Function::new(ctx.clone(), set)?)?;
    let decode = |text: String| {
        let pairs: Vec<_> = form_urlencoded::parse(text.as_bytes()).collect();
        serde_json::to_string(&pairs).unwrap_or_else(|_| "[]".to_owned())
    };
    host.set("formParse", Function::new(ctx.clone(), decode)?)?;
    let encode = |json: String| {
        // The prelude wrote it: pairs of texts.
        let pairs: Vec<(String, String)> = serde_json::from_str(&json).unwrap_or_default();
        form_urlencoded::Serializer::new(String::new())
            .extend_pairs(pairs)
            .finish()
    };
    host.set("formEncode", Function::new(ctx.clone(), encode)?)
}

fn parts<'js>(ctx: &Ctx<'js>, url: &Url) -> Result<Object<'js>> {
    let parts = Object::new(ctx.clone())?;
    parts.set("href", quirks::href(url))?;
    parts.set("origin", quirks::origin(url))?;
    parts.set("protocol", quirks::protocol(url))?;
    parts.set("username", quirks::username(url))?;
    parts.set("password", quirks::password(url))?;
    parts.set("host", quirks::host(url))?;
    parts.set("hostname", quirks::hostname(url))?;
    parts.set("port", quirks::port(url))?;
    parts.set("pathname", quirks::pathname(url))?;
    parts.set("search", quirks::search(url))?;
    parts.set("hash", quirks::hash(url))?;
    Ok(parts)
}
