// An own `const pipeline` hides the global of that name, but is given its functions too, as PocketCI's documents use them.
// Try it: pocketci run examples/stages-own-name.ts
const pipeline = async (): Promise<void> => {
  // TypeScript cannot know that; `stage` and `gate` without a prefix need no cast.
  const self = pipeline as unknown as PipelineGlobal;

  await self.stage("greet", ({ job }) => {
    for (const who of ["ada", "grace"]) {
      job(who, () =>
        runtime.run({ name: who, image: "busybox", command: { path: "echo", args: ["hello", who] }, failOnError: true }),
      );
    }
  });
  console.log(`greeted, and a gate is there as well: ${typeof self.gate === "function"}`);
};

export { pipeline };
