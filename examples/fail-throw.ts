// A throw fails the run; the message and the line are told as they stand here. `finally` still cleans up.
// Try it: pocketci run examples/fail-throw.ts; echo $?
const build = async () => {
  const result = await runtime.run({ name: "build", image: "busybox", command: { path: "sh", args: ["-c", "exit 2"] } });
  if (result.code !== 0) {
    throw new Error(`the build failed with code ${result.code}`);
  }
};

export const pipeline = async () => {
  try {
    await build();
    console.log("never printed");
  } finally {
    await runtime.run({ name: "clean up", image: "busybox", command: { path: "echo", args: ["cleaned up"] } });
  }
};
