// Checks that say what they expected. A failing one throws an AssertionError, which can be caught.
// Try it: pocketci run examples/assertions.ts
export const pipeline = async () => {
  const report = await runtime.run({
    name: "report",
    image: "busybox",
    command: { path: "echo", args: ['{"passed":12,"failed":0,"suites":["unit","e2e"]}'] },
  });
  const { passed, failed, suites } = JSON.parse(report.stdout);

  assert.equal({ passed, failed }, { passed: 12, failed: 0 });
  assert.notEqual(passed, 0, "no test was run");
  assert.truthy(report.durationMs >= 0);
  assert.containsElement(suites, "unit");
  assert.containsString(report.stdout, '"passed":\\d+');
  assert.containsString(report.stdout, /"SUITES"/i, "a report without suites");
  console.log("all checks hold");

  try {
    assert.equal(suites, ["unit", "smoke"], "the suites changed");
  } catch (error) {
    if (!(error instanceof AssertionError)) throw error;
    console.log(`${error.message.split("\n")[0]}: got ${error.actual}, wanted ${error.expected}`);
  }

  // Asks until the text matches, or the time is over; the getter may be async.
  let asked = 0;
  await assert.eventuallyContainsString(async () => `asked ${++asked} times`, "asked 3");
  console.log(`the answer came after ${asked} questions`);
  try {
    await assert.eventuallyContainsString(() => "starting", "ready", { timeoutMs: 200, intervalMs: 20, message: "never ready" });
  } catch (error) {
    console.log(`gave up: ${error instanceof AssertionError}`);
  }
};
