// Answers GitHub at once, then builds in the background.
// Set it with: pocketci set-pipeline examples/github-webhook.ts --driver native --webhook-secret my-secret-key
interface Push {
  ref: string;
  after: string;
  commits: { message: string }[];
}

const pipeline = async (): Promise<void> => {
  const req = http.request();
  if (!req) {
    console.log("started by hand");
    return;
  }
  // The caller has its answer here; everything below goes on without it.
  http.respond({
    status: 200,
    body: JSON.stringify({ accepted: true, event: req.eventType }),
    headers: { "Content-Type": "application/json" },
  });

  if (!webhookTrigger('provider == "github" && eventType == "push" && payload.ref == "refs/heads/main"')) {
    console.log(`nothing to do for ${req.eventType}`);
    return;
  }
  const push: Push = JSON.parse(req.body);
  console.log(`building ${push.after.slice(0, 7)} with ${push.commits.length} new commit(s)`);
  const result = await runtime.run({
    name: "build",
    image: "debian:bookworm-slim",
    command: { path: "sh", args: ["-c", 'echo "compiling $COMMIT on $(uname -s)"; echo "1 warning" >&2'] },
    env: { COMMIT: push.after.slice(0, 7) },
  });
  if (result.code !== 0) {
    throw new Error(`the build failed with code ${result.code}`);
  }
  console.log("built");
};

export { pipeline };
