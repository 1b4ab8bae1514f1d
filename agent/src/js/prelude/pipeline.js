(host) => {
  const stage = async (name, define) => {
    if (typeof name !== "string" || typeof define !== "function") {
      throw new TypeError("pipeline.stage: a name and a function are expected");
    }
    const jobs = [];
    let open = true;
    define({
      job(job, run) {
        if (typeof job !== "string" || typeof run !== "function") throw new TypeError("stage.job: a name and a function are expected");
        if (!open) throw new Error(`stage ${JSON.stringify(name)}: job ${JSON.stringify(job)} comes after the stage has begun`);
        jobs.push({ job, run });
      },
    });
    open = false;
    if (jobs.length === 0) throw new Error(`stage ${JSON.stringify(name)} has no jobs`);
    const ended = await Promise.allSettled(jobs.map(async ({ run }) => run()));
    const failed = ended.flatMap((end, at) => (end.status === "rejected" ? [{ job: jobs[at].job, reason: end.reason }] : []));
    if (failed.length === 0) return;
    const told = failed.map(({ job, reason }) => `job ${JSON.stringify(job)} failed: ${reason instanceof Error ? reason.message : host.show(reason)}`);
    const error = new Error(`stage ${JSON.stringify(name)}: ${told.join("; ")}`, { cause: failed[0].reason });
    error.name = "StageError";
    error.errors = failed.map(({ reason }) => reason);
    throw error;
  };
  const gate = (name, options) => {
    const { message, timeout } = options ?? {};
    return host.start("gate", JSON.stringify({ name, message, timeout }), undefined, "pipeline.gate")[0];
  };
  return { pipeline: { stage, gate }, stage, gate };
}
