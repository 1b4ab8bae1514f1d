// Another user and another directory for a step.
// Try it: pocketci run examples/run-user-workdir.ts (the native driver needs an agent that runs as root)
export const pipeline = async () => {
  const run = async (name: string, command: Command, workDir?: string) => {
    const result = await runtime.run({ name, image: "busybox", command, workDir, failOnError: true });
    return result.stdout.trim();
  };

  console.log(`by default: uid ${await run("default", { path: "id", args: ["-u"] })}`);
  console.log(`by name: uid ${await run("by name", { path: "id", args: ["-u"], user: "nobody" })}`);
  console.log(`by number: uid ${await run("by number", { path: "id", args: ["-u"], user: "1234" })}`);
  console.log(`with group: gid ${await run("with group", { path: "id", args: ["-g"], user: "1234:4321" })}`);
  console.log(`works in ${await run("directory", { path: "pwd" }, "/tmp")}`);
};
