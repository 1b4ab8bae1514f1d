// A step computes the answer. ArrayBuffer bodies work as well as text; letters beyond ASCII stay what they are.
// Try it: pocketci run examples/webhook-text.ts --webhook-method PUT --webhook-body grün
export const pipeline = async () => {
  const request = http.request();
  if (!request) return;
  const upper = await runtime.run({
    name: "upper",
    image: "busybox",
    command: { path: "sed", args: ["s/ü/Ü/g; s/g/G/g; s/r/R/g; s/n/N/g"] },
    stdin: request.body,
  });
  const answer = new TextEncoder().encode(upper.stdout.trim());
  http.respond({ headers: { "Content-Type": "text/plain; charset=utf-8" }, body: answer.buffer });
  console.log(`answered ${request.method}`);
};
