// Headers and responses as values: handy to test what handles them, without a network.
// Try it: pocketci run examples/responses.ts
const summary = async (response: Response) => `${response.status} ${response.statusText}: ${(await response.json()).state}`;

export const pipeline = async () => {
  const headers = new Headers([["Accept", "text/html"]]);
  headers.append("accept", "application/json");
  headers.set("X-Trace", "1");
  headers.set("x-trace", "2");
  headers.append("X-Old", "yes");
  headers.delete("x-old");
  console.log(`accept: ${headers.get("Accept")}; trace: ${headers.get("X-TRACE")}`);
  console.log(`old: ${headers.has("X-Old")}, ${headers.get("X-Old")}`);

  // Every way of going through them gives lower-case names in order.
  const names: string[] = [];
  headers.forEach((_value, name) => names.push(name));
  assert.equal([...headers.keys()], names);
  assert.equal([...headers.entries()], [...headers]);
  assert.equal([...headers.values()].length, names.length);
  console.log(`names: ${names.join(" ")}`);

  const response = new Response('{"state":"green"}', { status: 201, statusText: "Created", headers: new Headers(headers) });
  const copy = response.clone();
  console.log(await summary(response));
  console.log(`read: ${response.bodyUsed}, its copy: ${copy.bodyUsed}`);
  await response.text().catch(() => console.log("a body is read once"));

  const buffer = await copy.arrayBuffer();
  const again = new Response(buffer, { headers: { "Content-Type": "application/json" } });
  console.log(`${buffer.byteLength} bytes, ok: ${again.ok}, redirected: ${again.redirected}, url "${again.url}"`);
  const nothing = await new Response(null, { status: 204 }).bytes();
  console.log(`nothing: ${nothing.length}`);
};
