// Gives up on purpose: one controller ends a request, listeners tell others.
// Try it: pocketci run examples/abort.ts https://example.com
const base = pipelineContext.args[0] ?? "https://example.com";

export const pipeline = async () => {
  const controller = new AbortController();
  const { signal } = controller;
  const heard: string[] = [];
  const forgotten = () => heard.push("forgotten");
  signal.onabort = (event) => heard.push(`onabort ${event.type}`);
  signal.addEventListener("abort", () => heard.push("listener"), { once: true });
  signal.addEventListener("abort", forgotten);
  signal.removeEventListener("abort", forgotten);

  // Either the controller or the clock; here the controller is first.
  const either = AbortSignal.any([signal, AbortSignal.timeout(5_000)]);
  setTimeout(() => controller.abort(new Error("the build was superseded")), 200);
  try {
    await fetch(`${base}/slow`, { signal: either });
  } catch {
    console.log(`given up: ${either.reason.message}`);
  }
  console.log(`heard: ${heard.join(", ")}`);
  console.log(`aborted: ${signal.aborted}, same reason: ${signal.reason === either.reason}`);

  try {
    signal.throwIfAborted();
  } catch (reason) {
    console.log(`thrown: ${(reason as Error).message}`);
  }
  console.log(`fresh: ${new AbortController().signal.aborted}, dead: ${AbortSignal.abort().aborted}`);
};
