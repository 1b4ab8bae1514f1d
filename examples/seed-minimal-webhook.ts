// The webhook guide's "Minimal webhook": answers and goes on.
// Try it: pocketci run examples/seed-minimal-webhook.ts --webhook-body '{}'
const pipeline = async () => {
  const req = http.request();
  if (req) {
    http.respond({ status: 200, body: "ok" });
  }
  // Continue processing...
};
export { pipeline };
