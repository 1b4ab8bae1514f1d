// An exit code is a result, not an error, unless `failOnError` asks for one.
// Try it: pocketci run examples/run-exit-code.ts
const isStepError = (error: unknown): error is StepError => error instanceof Error && error.name === "StepError";

export const pipeline = async () => {
  const search = await runtime.run({
    name: "search",
    image: "busybox",
    command: { path: "grep", args: ["needle"] },
    stdin: "only hay here\n",
  });
  // grep says 1 when it finds nothing: that is information.
  console.log(search.code === 1 ? "no needle" : "a needle!");

  try {
    await runtime.run({
      name: "compile",
      image: "busybox",
      command: { path: "sh", args: ["-c", "echo 'main.c:7: expected ;' >&2; exit 2"] },
      failOnError: true,
    });
  } catch (error) {
    if (!isStepError(error)) throw error;
    console.log(`compile ended with ${error.result.code}: ${error.result.stderr.trim()}`);
  }

  // A program that is not there rejects always: there is no exit code to give.
  try {
    await runtime.run({ name: "typo", image: "busybox", command: { path: "no-such-program" } });
    console.log("this line is never reached");
  } catch (error) {
    console.log("the step could not be started");
  }
};
