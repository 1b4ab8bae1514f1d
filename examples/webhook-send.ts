// Calls other systems' webhooks: signed, tried again after failures, with or without waiting for the answer.
// Try it: pocketci run examples/webhook-send.ts https://example.com (it needs the secret HOOK_KEY)
const base = pipelineContext.args[0] ?? "https://example.com";

export const pipeline = async () => {
  const sent = await webhook.send({
    url: `${base}/hooks/deploy`,
    body: { version: "1.2.3", run: pipelineContext.runID },
    secret: "secret:HOOK_KEY",
    headers: { "X-Environment": "staging" },
    retries: 2,
    timeout: "10s",
  });
  // With `wait: false` there is only the id.
  if ("status" in sent) {
    console.log(`delivered with ${sent.status} in ${sent.attempts} attempt(s), the answer: ${JSON.parse(sent.body).path}`);
  }

  const updated = await webhook.send({
    url: `${base}/hooks/status`,
    method: "PUT",
    body: "state=green",
    headers: { "Content-Type": "application/x-www-form-urlencoded" },
    timeout: 10_000,
  });
  if ("body" in updated) console.log(`updated by ${JSON.parse(updated.body).method}`);

  // Resolves at once; the delivery still ends before the run does.
  const { id } = await webhook.send({ url: `${base}/hooks/metrics`, body: [1, 2, 3], wait: false, retries: 0 });
  console.log(`on its way: ${id !== "" && id !== sent.id}`);
};
