// Everything a step tells about itself.
// Try it: pocketci run examples/run-result.ts
export const pipeline = async () => {
  const result: RunResult = await runtime.run({
    name: "measure",
    image: "busybox",
    command: { path: "sh", args: ["-c", "echo to stdout; echo to stderr >&2; sleep 0.2; exit 3"] },
  });

  console.log(`code ${result.code}, status ${result.status}, attempts ${result.attempts}`);
  console.log(`stdout "${result.stdout.trim()}", stderr "${result.stderr.trim()}"`);

  // The times are RFC 3339; durationMs is measured, not computed from them.
  const started = Date.parse(result.startedAt);
  const ended = Date.parse(result.endedAt);
  if (!(started <= ended) || result.durationMs < 200) {
    throw new Error(`odd times: ${result.startedAt} to ${result.endedAt}, ${result.durationMs} ms`);
  }
  console.log("the times make sense");
};
