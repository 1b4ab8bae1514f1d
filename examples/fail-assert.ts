// An assertion that nobody catches fails the run.
// Try it: pocketci run examples/fail-assert.ts; echo $?
export const pipeline = async () => {
  const coverage = await runtime.run({ name: "coverage", image: "busybox", command: { path: "echo", args: ["73"] } });
  assert.truthy(Number(coverage.stdout) >= 80, `coverage is ${coverage.stdout.trim()}, not 80`);
  console.log("never printed");
};
