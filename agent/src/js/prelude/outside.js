(host) => {
  const payloadOf = (body) => {
    if (body === undefined || body === null) return [undefined, ""];
    if (body instanceof ArrayBuffer || ArrayBuffer.isView(body)) return [body, "application/octet-stream"];
    if (typeof body === "string") return [body, "text/plain; charset=utf-8"];
    return [JSON.stringify(body), "application/json"];
  };
  const send = (config) => {
    const { url, body, method, headers, secret, wait = true, retries, timeout } = config ?? {};
    const [payload, contentType] = payloadOf(body);
    const request = { url: url === undefined ? undefined : String(url), method, headers, secret, retries, timeout, contentType };
    const id = host.deliveryId(`${request.url}\n${typeof payload === "string" ? payload : ""}`);
    const sent = host.start("sendWebhook", JSON.stringify({ ...request, id }), payload, "webhook.send")[0];
    if (wait) return sent;
    sent.catch((error) => host.note(`webhook.send: ${id}: ${error.message}`));
    return Promise.resolve({ id });
  };
  const emit = (name, payload = null) =>
    host.start("emitEvent", JSON.stringify({ name, payload: JSON.stringify(payload) }), undefined, "event.emit")[0];
  const triggerPipeline = (name, options) =>
    host.start("trigger", JSON.stringify({ ...options, name }), undefined, "triggerPipeline")[0];
  return { webhook: { send: async (config) => send(config) }, event: { emit: async (...given) => emit(...given), listen: (key) => host.listen(String(key)) }, triggerPipeline };
}
