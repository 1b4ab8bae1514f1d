// Runs only for what matters, and takes values out of the webhook. Expressions are CEL or expr-lang.
// Try it: pocketci run examples/webhook-filter.ts --webhook-header X-GitHub-Event=pull_request --webhook-body '{"action":"opened"}'
export const pipeline = async () => {
  http.respond({ status: 202, body: "looking at it" });

  const opened = webhookTrigger('eventType == "pull_request" && payload.action in ["opened", "synchronize"]'); // CEL
  const draft = webhookTrigger('payload.pull_request.draft == true and provider matches "^git"'); // expr-lang
  if (!opened || draft) {
    console.log("not for us");
    return;
  }
  // A wrong expression is never true; the log says what is wrong with it.
  console.log(`a wrong expression: ${webhookTrigger("payload ===")}`);

  const params = webhookParams({
    BRANCH: "payload.pull_request.head.ref",
    TITLE: "payload.pull_request.title",
    EVENT: 'headers["x-github-event"]',
    BROKEN: "payload ===",
  });
  console.log(`a failed one is left out: ${!("BROKEN" in params)}`);

  // Values from outside go through the environment, never into the script's text.
  await runtime.run({
    name: "review",
    image: "busybox",
    env: params,
    command: { path: "sh", args: ["-c", 'echo "checking $BRANCH ($EVENT): $TITLE"'] },
  });
};
