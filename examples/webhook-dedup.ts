// GitHub redelivers; the work is done once, whatever agents the deliveries come to.
// Try it twice: pocketci run examples/webhook-dedup.ts --webhook-body '{}' --webhook-header X-GitHub-Delivery=72d3162e
export const pipeline = async () => {
  http.respond({ status: 200, body: "thank you" });
  const delivery = http.request()?.headers["X-GitHub-Delivery"] ?? "none";

  if (webhookDedup('headers["x-github-delivery"]')) {
    console.log(`delivery ${delivery} was here before`);
    return;
  }
  console.log(`delivery ${delivery} is new`);
  await runtime.run({ name: "work", image: "busybox", command: { path: "echo", args: ["working", "once"] } });

  // An empty key and a wrong expression are never duplicates.
  console.log(`empty: ${webhookDedup('headers["x-nothing"] ?? ""')}, wrong: ${webhookDedup("payload ===")}`);
};
