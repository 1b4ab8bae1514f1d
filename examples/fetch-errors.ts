// What can go wrong with a request, and how to tell: a status is no error, silence and redirects can be.
// Try it: pocketci run examples/fetch-errors.ts https://example.com
const base = pipelineContext.args[0] ?? "https://example.com";

const failing = async (what: string, options: FetchOptions, url = `${base}/slow`) => {
  try {
    const response = await fetch(url, options);
    console.log(`${what}: answered ${response.status}`);
  } catch (error) {
    console.log(`${what}: failed`);
    console.debug(String(error));
  }
};

export const pipeline = async () => {
  const missing = await fetch(`${base}/missing`);
  console.log(`missing: ${missing.status}, ok is ${missing.ok}`);

  await failing("too slow for a timeout", { timeout: 500 });
  await failing("too slow for a signal", { signal: AbortSignal.timeout(500) });
  await failing("already given up", { signal: AbortSignal.abort("not needed") });

  await failing("redirect refused", { redirect: "error" }, `${base}/redirect`);
  await failing("redirect followed", { redirect: "follow" }, `${base}/redirect`);
  const manual = await fetch(`${base}/redirect`, { redirect: "manual" });
  console.log(`redirect looked at: ${manual.status} to ${manual.headers.get("location")}`);

  await failing("no such scheme", {}, "gopher://example.com/");
  // Addresses of the agent's own network are refused unless its operator allows them.
  await failing("private address", { timeout: 3000 }, "http://10.255.255.1/");
};
