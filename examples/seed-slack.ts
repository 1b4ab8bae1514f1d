// The webhook guide's "Slack webhook": an ordinary event.
// Try it: pocketci run examples/seed-slack.ts --webhook-header X-Slack-Signature=v0=00 --webhook-body '{"type":"event_callback","event":{"type":"message"}}'
const pipeline = async () => {
  const req = http.request();
  if (!req) return;
  // Handle Slack's url_verification challenge
  if (req.eventType === "url_verification") {
    const { challenge } = JSON.parse(req.body);
    http.respond({
      status: 200,
      body: JSON.stringify({ challenge }),
      headers: { "Content-Type": "application/json" },
    });
    return;
  }
  http.respond({ status: 200, body: "ok" });
  const payload = JSON.parse(req.body);
  console.log("Slack event:", payload.event?.type);
};
export { pipeline };
