// A flaky step is run again until it works. A volume carries what it remembers from one try to the next.
// Try it: pocketci run examples/run-retries.ts
export const pipeline = async () => {
  const state = await volumes.create({ name: "state" });
  const flaky = await runtime.run({
    name: "flaky",
    image: "busybox",
    mounts: { state },
    command: {
      path: "sh",
      args: ["-c", "echo try >> state/tries; n=$(wc -l < state/tries); echo this is try $n; [ $n -ge 3 ]"],
    },
    retries: 5,
    failOnError: true,
  });
  console.log(`worked after ${flaky.attempts} attempts`);

  const hopeless = await runtime.run({ name: "hopeless", image: "busybox", command: { path: "false" }, retries: 1 });
  console.log(`gave up after ${hopeless.attempts} attempts with code ${hopeless.code}`);
};
