// The webhook guide's "Slack webhook" once more: the handshake with which Slack checks an address.
// Try it: pocketci run examples/seed-slack-challenge.ts --webhook-header X-Slack-Signature=v0=00 --webhook-body '{"type":"url_verification","challenge":"c"}'
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
