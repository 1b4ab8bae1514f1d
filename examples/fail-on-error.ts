// With failOnError an exit code other than 0 ends the run, without a line of your own.
// Try it: pocketci run examples/fail-on-error.ts; echo $?
export const pipeline = async () => {
  await runtime.run({
    name: "unit tests",
    image: "busybox",
    command: { path: "sh", args: ["-c", "echo '1 of 12 tests failed'; exit 5"] },
    failOnError: true,
  });
  await runtime.run({ name: "deploy", image: "busybox", command: { path: "echo", args: ["never", "deployed"] } });
};
