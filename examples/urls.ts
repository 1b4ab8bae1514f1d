// Takes addresses apart and puts them together, with everything escaped as it must be.
// Try it: pocketci run examples/urls.ts
export const pipeline = () => {
  const url = new URL("../v2/builds?page=2#top", "https://ci:pw@api.example.com:8443/v1/runs/");
  console.log(`${url.protocol} ${url.username} ${url.hostname} ${url.port} ${url.pathname} ${url.search} ${url.hash}`);
  console.log(`origin ${url.origin}, host ${url.host}`);

  url.password = "";
  url.username = "";
  url.port = "";
  url.hash = "";
  url.searchParams.append("branch", "feature/a & b");
  console.log(`now ${url}`);
  console.log(`as JSON ${JSON.stringify({ url })}, same: ${url.toJSON() === url.href}`);

  url.protocol = "http:";
  url.host = "localhost:3000";
  url.pathname = "/health check";
  url.search = "";
  console.log(`local ${url.toString()}`);

  console.log(`valid: ${URL.canParse("/a", "https://example.com")}, invalid: ${URL.canParse("not a url")}`);
  console.log(`parsed: ${URL.parse("x", "https://example.com/")?.href}, not parsed: ${URL.parse("::")}`);

  const query = new URLSearchParams("tag=b&tag=a&draft=");
  query.append("tag", "c");
  query.set("draft", "no");
  query.delete("tag", "b");
  query.sort();
  console.log(`${query.toString()}, ${query.size} in all, tags ${query.getAll("tag")}, first ${query.get("tag")}`);
  console.log(`has: ${query.has("draft")} ${query.has("tag", "z")} ${query.get("nothing")}`);

  const seen: string[] = [];
  query.forEach((value, name) => seen.push(`${name}=${value}`));
  assert.equal([...query.keys()].map((name, at) => `${name}=${[...query.values()][at]}`), seen);
  assert.equal([...new URLSearchParams([...query.entries()])], [...query]);
  assert.equal(new URLSearchParams({ a: "1" }).toString(), new URLSearchParams("?a=1").toString());
};
