(host) => {
  let backends = {};
  let context = { pipelineName: pipelineContext.pipelineName, buildID: pipelineContext.runID };
  const given = (value) => Object.fromEntries(Object.entries(value ?? {}).filter(([, one]) => one !== undefined && one !== ""));
  const text = (value) => (value instanceof Error ? value.message : String(value));
  const deliver = (name, message) => {
    const backend = Object.hasOwn(backends, name) ? backends[name] : undefined;
    if (backend === undefined) return Promise.reject(new Error(`notification config ${JSON.stringify(name)} not found`));
    return host.start("notify", JSON.stringify({ backend, message, context }), undefined, "notify.send")[0];
  };
  const refuse = (error) => {
    throw { success: false, error };
  };
  const log = (name) => (error) => host.note(`notify: ${name}: ${text(error)}`);
  const notify = {
    configure(config) {
      if (config?.backends) backends = { ...backends, ...config.backends };
      if (config?.context) context = { ...context, ...given(config.context) };
    },
    setConfigs(configs) {
      backends = { ...configs };
    },
    setContext(next) {
      context = { ...next };
    },
    updateContext(partial) {
      context = { ...context, ...given(partial) };
    },
    updateStatus(status) {
      context = { ...context, status };
    },
    updateJobName(jobName) {
      context = { ...context, jobName };
    },
    async send({ name, message, async = false } = {}) {
      const sent = deliver(name, String(message));
      if (async) {
        sent.catch(log(name));
        return { success: true };
      }
      await sent.catch((error) => refuse(text(error)));
      return { success: true };
    },
    async sendMultiple({ names = [], message, async = false } = {}) {
      const all = names.map((name) => ({ name, sent: deliver(name, String(message)) }));
      if (async) {
        for (const { name, sent } of all) sent.catch(log(name));
        return { success: true };
      }
      const ended = await Promise.allSettled(all.map(({ sent }) => sent));
      const failed = ended.flatMap((end, at) => (end.status === "rejected" ? [`${all[at].name}: ${text(end.reason)}`] : []));
      if (failed.length > 0) refuse(`${failed.length} notification(s) failed: ${failed.join("; ")}`);
      return { success: true };
    },
  };
  return { notify };
}
