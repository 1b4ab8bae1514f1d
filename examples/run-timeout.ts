// A step that takes too long is stopped; what it printed until then is kept.
// Try it: pocketci run examples/run-timeout.ts
export const pipeline = async () => {
  const slow = await runtime.run({
    name: "slow",
    image: "busybox",
    command: { path: "sh", args: ["-c", "echo started; sleep 60; echo never $((40 + 2))"] },
    timeout: "3s",
  });
  console.log(`slow: ${slow.status} with code ${slow.code} after "${slow.stdout.trim()}"`);

  // A number is milliseconds; with failOnError a stopped step rejects.
  try {
    await runtime.run({
      name: "strict",
      image: "busybox",
      command: { path: "sleep", args: ["60"] },
      timeout: 1500,
      failOnError: true,
    });
  } catch (error) {
    if (!(error instanceof Error) || error.name !== "StepError") throw error;
    console.log(`strict: ${(error as StepError).result.status}`);
  }

  const quick = await runtime.run({ name: "quick", image: "busybox", command: { path: "true" }, timeout: "1m30s" });
  console.log(`quick: ${quick.status}`);
};
