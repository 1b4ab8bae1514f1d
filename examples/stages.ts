// Jobs of a stage run side by side; the next stage begins when all of them are done.
// Try it: pocketci run examples/stages.ts
const step = (name: string, script: string) => () =>
  runtime.run({ name, image: "busybox", command: { path: "sh", args: ["-c", script] }, failOnError: true });

export const pipeline = async () => {
  const order: string[] = [];

  await stage("test", ({ job }) => {
    job("unit", step("unit", "echo 12 unit tests passed"));
    job("lint", step("lint", "echo no complaints"));
    job("docs", () => {
      order.push("docs"); // A job need not run a step, nor be async.
    });
  });
  order.push("tested");

  // A stage rejects if any of its jobs fails, after all of them have ended.
  try {
    await stage("deploy", ({ job }) => {
      job("eu", step("eu", "sleep 0.5; echo deployed to eu"));
      job("us", step("us", "echo no route to us >&2; exit 1"));
    });
  } catch (error) {
    console.log(`not everywhere deployed: ${error instanceof Error && error.message.includes("us")}`);
    order.push("repaired");
  }
  console.log(`order: ${order.join(", ")}`);
};
