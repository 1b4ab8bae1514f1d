// The webhook guide's "Conditional Execution": a push to main deploys.
// Try it: pocketci run examples/seed-conditional.ts --webhook-header X-GitHub-Event=push --webhook-body '{"ref":"refs/heads/main"}'
const pipeline = async () => {
  const req = http.request();
  if (req) {
    http.respond({ status: 200, body: "acknowledged" });
  }
  // Only deploy on GitHub push events to main
  if (
    !webhookTrigger(
      'provider == "github" && eventType == "push" && payload.ref == "refs/heads/main"',
    )
  ) {
    return;
  }
  await runtime.run({
    name: "deploy",
    image: "busybox",
    command: { path: "sh", args: ["-c", "echo deploying"] },
  });
};
export { pipeline };
