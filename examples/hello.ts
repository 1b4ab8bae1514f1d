// The smallest useful pipeline: a line in the log, one step, its output.
// Try it: pocketci run examples/hello.ts
export const pipeline = async () => {
  console.info("hello from", pipelineContext.driverName);

  const greeting = await runtime.run({
    name: "greet",
    image: "busybox",
    command: { path: "echo", args: ["hello", "world"] },
  });
  console.log(`the step said: ${greeting.stdout.trim()}`);

  // `debug` goes to the log's stdout as well, `warn` and `error` to its stderr.
  console.debug("a detail");
  console.warn("a warning");
  console.error("an error that stops nothing");
};
