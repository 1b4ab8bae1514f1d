// The webhook guide's filter on nested fields, and its "Pipeline Context".
// Try it: pocketci run examples/seed-slack-mention.ts --webhook-header X-Slack-Signature=v0=00 --webhook-body '{"type":"event_callback","event":{"type":"app_mention"}}'
const pipeline = async () => {
  if (pipelineContext.triggeredBy === "webhook") {
    // Handle webhook-specific logic
    http.respond({ status: 200, body: "heard" });
  }
  // Only act on Slack messages mentioning the bot
  if (!webhookTrigger('payload.event.type == "app_mention"')) return;
  await runtime.run({
    name: "reply",
    image: "busybox",
    command: { path: "echo", args: ["the bot was mentioned"] },
  });
};
export { pipeline };
