// Hands files from one step to the next, and reads them without a step.
// Try it: pocketci run examples/volumes.ts
export const pipeline = async () => {
  const source = await volumes.create({ name: "source", size: 16 * 1024 * 1024 });
  await runtime.run({
    name: "checkout",
    image: "busybox",
    mounts: { src: source },
    command: {
      path: "sh",
      args: ["-c", "mkdir -p src/docs && echo 'v1.4.0' > src/VERSION && echo '# App' > src/docs/README.md"],
    },
    failOnError: true,
  });

  // A volume may be given by its name as well.
  const version = await runtime.run({
    name: "version",
    image: "busybox",
    mounts: { input: "source" },
    command: { path: "cat", args: ["input/VERSION"] },
  });
  console.log(`the second step read ${version.stdout.trim()}`);

  const files = await source.readFiles(["VERSION", "docs/README.md"]);
  console.log(`read here: ${files["VERSION"].trim()} and ${files["docs/README.md"].trim()}`);

  // The same name is the same volume; both ways of reading are the same.
  const again = await volumes.create({ name: "source" });
  const copy = await volumes.readFiles(again, ["VERSION"]);
  const byName = await volumes.readFiles("source", ["VERSION"]);
  assert.equal(copy, byName);
  assert.equal(again.path, source.path);

  await source.readFiles(["no/such/file"]).catch(() => console.log("a missing file is an error"));

  const scratch = await volumes.create();
  console.log(`a volume without a name got one: ${scratch.name !== "" && scratch.name !== source.name}`);
};
