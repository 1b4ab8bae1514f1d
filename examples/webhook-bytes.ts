// Answers with bytes: a tiny GIF, for a badge or a counting pixel.
// Try it: pocketci run examples/webhook-bytes.ts --webhook-method GET
const PIXEL = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7";

export const pipeline = async () => {
  if (http.request()?.method === "HEAD") {
    http.respond({ status: 204 });
    return;
  }
  const bytes = Uint8Array.from(atob(PIXEL), (character) => character.charCodeAt(0));
  http.respond({ headers: { "Content-Type": "image/gif" }, body: bytes });

  // The pipeline goes on after the answer.
  const size = await runtime.run({ name: "measure", image: "busybox", command: { path: "wc", args: ["-c"] }, stdin: bytes });
  console.log(`answered with ${size.stdout.trim()} bytes`);
};
