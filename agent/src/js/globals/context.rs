//! `pipelineContext`: what the pipeline is told about its run. Frozen.

use crate::js::host::JobContext;
use crate::js::value::constant;
use rquickjs::{Array, Ctx, Function, Object, Result, Value};

/// The object.
pub(super) fn new<'js>(ctx: &Ctx<'js>, job: &JobContext) -> Result<Object<'js>> {
    let freeze: Function = ctx.globals().get::<_, Object>("Object")?.get("freeze")?;
    let context = Object::new(ctx.clone())?;
    constant(&context, "runID", job.run_id.as_str())?;
    constant(&context, "pipelineID", job.pipeline_id.as_str())?;
    constant(&context, "name", job.pipeline_name.as_str())?;
    constant(&context, "pipelineName", job.pipeline_name.as_str())?;
    constant(&context, "triggeredBy", job.triggered_by.as_str())?;
    constant(&context, "args", list(ctx, &freeze, &job.args)?)?;
    constant(
        &context,
        "targetJobs",
        list(ctx, &freeze, &job.target_jobs)?,
    )?;
    constant(&context, "driverName", job.driver_name.as_str())?;
    constant(&context, "attempt", job.attempt)?;
    freeze.call::<_, Value>((context.clone(),))?;
    Ok(context)
}

fn list<'js>(ctx: &Ctx<'js>, freeze: &Function<'js>, items: &[String]) -> Result<Array<'js>> {
    let array = Array::new(ctx.clone())?;
    for (index, item) in items.iter().enumerate() {
        array.set(index, item.as_str())?;
    }
    freeze.call::<_, Value>((array.clone(),))?;
    Ok(array)
}
