// Waits for a background service to say that it is ready, uses it, and stops it.
// Try it: pocketci run examples/wait-until-ready.ts
export const pipeline = async () => {
  const shared = await volumes.create({ name: "shared" });
  let output = "";
  // Not awaited yet: it serves until the file `stop` appears.
  const service = runtime.run({
    name: "service",
    image: "busybox",
    mounts: { shared },
    command: {
      path: "sh",
      args: ["-c", "sleep 0.3; echo listening on 8080; until [ -e shared/stop ]; do sleep 0.1; done; echo stopped"],
    },
    onOutput: (_stream, text) => {
      output += text;
    },
    timeout: "60s",
  });

  await assert.eventuallyContainsString(() => output, /listening on \d+/, {
    timeoutMs: 30_000,
    intervalMs: 50,
    message: "the service did not start",
  });
  console.log("the service is ready");

  await runtime.run({ name: "stop", image: "busybox", mounts: { shared }, command: { path: "touch", args: ["shared/stop"] } });
  const ended = await service;
  console.log(`the service ended by itself: ${ended.status}, ${ended.stdout.trim().split("\n").pop()}`);
};
