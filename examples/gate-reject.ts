// A rejected gate is a GateError: clean up, and end well.
// Try it: pocketci run examples/gate-reject.ts, and elsewhere: pocketci gates reject
export const pipeline = async () => {
  try {
    await gate("drop-the-old-table", { message: "are you sure?" });
    console.log("dropping");
  } catch (error) {
    if (!(error instanceof Error) || error.name !== "GateError") throw error;
    await runtime.run({ name: "clean up", image: "busybox", command: { path: "echo", args: ["the table stays"] } });
  }
};
