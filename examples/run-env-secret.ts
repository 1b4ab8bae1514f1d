// Environment and secrets: the step sees the value, the log and the result see `***`.
// Try it: pocketci run examples/run-env-secret.ts (it needs the secret DEPLOY_TOKEN)
export const pipeline = async () => {
  const deploy = await runtime.run({
    name: "deploy",
    image: "busybox",
    command: {
      path: "sh",
      args: ["-c", 'echo "deploying $VERSION to $REGION"; echo "token: $TOKEN"; echo "length ${#TOKEN}"'],
    },
    env: { VERSION: "1.2.3", REGION: "eu", TOKEN: "secret:DEPLOY_TOKEN" },
  });
  console.log(deploy.stdout.includes("token: ***") ? "the token is masked" : "the token leaked!");

  // Another step has only what it is given.
  const other = await runtime.run({
    name: "lint",
    image: "busybox",
    command: { path: "sh", args: ["-c", 'echo "token here: ${TOKEN:-none}"'] },
  });
  console.log(other.stdout.trim());

  // A secret that does not exist rejects before anything is started.
  try {
    await runtime.run({
      name: "wrong",
      image: "busybox",
      command: { path: "echo", args: ["the", "wrong", "step", "ran"] },
      env: { KEY: "secret:NO_SUCH_SECRET" },
    });
  } catch {
    console.log("a missing secret is an error");
  }
};
