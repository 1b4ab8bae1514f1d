// The webhook guide's "Read body and respond with data".
// Try it: pocketci run examples/seed-read-body.ts --webhook-body '{"event":"push"}'
const pipeline = async () => {
  const req = http.request();
  if (req) {
    const data = JSON.parse(req.body);
    http.respond({
      status: 200,
      body: JSON.stringify({ received: true, keys: Object.keys(data) }),
      headers: { "Content-Type": "application/json" },
    });
  }
  // Run containers in the background after responding
  await runtime.run({
    name: "process",
    image: "busybox",
    command: { path: "echo", args: ["processing webhook"] },
  });
};
export { pipeline };
