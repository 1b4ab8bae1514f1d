// HTTP requests from the agent: JSON, forms, bytes, secrets in headers.
// Try it: pocketci run examples/fetch.ts https://example.com (it needs the secret API_TOKEN)
const base = pipelineContext.args[0] ?? "https://example.com";

export const pipeline = async () => {
  const status = await fetch(`${base}/status`);
  if (!status.ok) throw new Error(`status ${status.status}`);
  const { path } = await status.json();
  console.log(`read ${path} as ${status.headers.get("Content-Type")}`);

  // A secret travels in a header without ever being in the script.
  const created = await fetch(new URL("/releases", base), {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: "Bearer secret:API_TOKEN" },
    body: JSON.stringify({ tag: "v1.2.3" }),
    timeout: 10_000,
  });
  console.log(`created: ${JSON.parse(await created.text()).method === "POST"}`);

  // A form sets its own content type; bytes go as they are.
  const form = await fetch(`${base}/form`, { method: "POST", body: new URLSearchParams({ q: "a b" }) });
  const put = await fetch(`${base}/blob`, {
    method: "PUT",
    headers: [["X-Api-Key", "secret:API_TOKEN"]],
    body: new Uint8Array([1, 2, 3]),
  });
  const patch = await fetch(`${base}/blob`, {
    method: "PATCH",
    headers: new Headers({ "X-Part": "2" }),
    body: new ArrayBuffer(8),
  });
  console.log(`all well: ${[form, put, patch].every((response) => response.status === 200)}`);

  // Where a redirect led to.
  const moved = await fetch(`${base}/redirect`);
  console.log(`redirected: ${moved.redirected}, to ${new URL(moved.url).pathname}`);

  const bytes = await (await fetch(`${base}/bytes`, { body: null })).bytes();
  console.log(`bytes: ${new TextDecoder().decode(bytes).includes("/bytes")}`);
};
