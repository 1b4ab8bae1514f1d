//! YAML to JSON text and back.

use rquickjs::{Ctx, Exception, Function, Object, Result};

/// `yamlParse`, `yamlStringify`.
pub(super) fn install<'js>(ctx: &Ctx<'js>, host: &Object<'js>) -> Result<()> {
    let parse = |ctx: Ctx<'js>, text: String| match pocketci_pipeline::yaml::to_json(&text) {
        Ok(json) => Ok(json),
        Err(wrong) => Err(Exception::throw_syntax(
            &ctx,
            &format!("yaml.parse: {wrong}"),
        )),
    };
    host.set("yamlParse", Function::new(ctx.clone(), parse)?)?;
    let stringify = |ctx: Ctx<'js>, json: String| match pocketci_pipeline::yaml::from_json(&json) {
        Ok(yaml) => Ok(yaml),
        Err(wrong) => Err(Exception::throw_type(
            &ctx,
            &format!("yaml.stringify: {wrong}"),
        )),
    };
    host.set("yamlStringify", Function::new(ctx.clone(), stringify)?)
}
