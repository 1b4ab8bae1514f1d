// The webhook guide's "GitHub webhook".
// Try it: pocketci run examples/seed-github.ts --webhook-header X-GitHub-Event=push --webhook-body '{"ref":"refs/heads/main"}'
const pipeline = async () => {
  const req = http.request();
  if (!req) return;
  // req.provider === "github", req.eventType === "push" | "pull_request" | ...
  http.respond({
    status: 200,
    body: JSON.stringify({ accepted: true, event: req.eventType }),
    headers: { "Content-Type": "application/json" },
  });
  const payload = JSON.parse(req.body);
  if (req.eventType === "push") {
    await runtime.run({
      name: "build",
      image: "busybox",
      command: { path: "echo", args: ["building", payload.ref] },
    });
  }
};
export { pipeline };
