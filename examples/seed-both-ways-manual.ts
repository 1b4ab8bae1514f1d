// The webhook guide's "Pipeline that works both ways", started by hand.
// Try it: pocketci run examples/seed-both-ways-manual.ts
const pipeline = async () => {
  const req = http.request();
  if (req) {
    // Triggered via webhook
    http.respond({ status: 200, body: "acknowledged" });
    console.log(`Webhook: ${req.method} from ${req.headers["User-Agent"]}`);
  } else {
    // Triggered manually via /api/pipelines/:id/trigger
    console.log("Manual trigger");
  }
  // Same logic regardless of trigger method
  await runtime.run({
    name: "test",
    image: "busybox",
    command: { path: "echo", args: ["testing", "./..."] },
  });
};
export { pipeline };
