// `pipeline.stage` and `pipeline.gate` are the functions `stage` and `gate` under the name PocketCI gives them.
// Try it: pocketci run examples/stages-namespace.ts
const main = async () => {
  await pipeline.stage("build", ({ job }) => {
    job("app", async () => {
      const built = await runtime.run({ name: "app", image: "busybox", command: { path: "echo", args: ["app built"] } });
      console.log(`exit code ${built.code}`);
    });
  });

  // A gate that nobody answers in time rejects; here on purpose, and soon.
  await pipeline.gate("nobody-is-here", { timeout: 300 }).catch((error: Error) => {
    console.log(`nobody answered: ${error.name}`);
  });
};

// Under an alias, so that the name `pipeline` still means the global inside this file. With `const pipeline = …` of
// your own, write `stage` and `gate`.
export { main as pipeline };
