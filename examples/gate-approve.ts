// Waits for a person before it deploys.
// Try it: pocketci run examples/gate-approve.ts, and elsewhere: pocketci gates approve
export const pipeline = async () => {
  await runtime.run({ name: "build", image: "busybox", command: { path: "echo", args: ["built", "1.2.3"] } });

  const decision: GateDecision = await gate("production", { message: "deploy 1.2.3 to production?", timeout: "2h" });
  console.log(`approved by somebody: ${decision.by.length > 0}, comment "${decision.comment}"`);
  console.log(`at a time that is one: ${!Number.isNaN(Date.parse(decision.at))}`);

  await runtime.run({ name: "deploy", image: "busybox", command: { path: "echo", args: ["deployed", "1.2.3"] } });
};
