// Everything a webhook carries.
// Try it: pocketci run examples/webhook-request.ts --webhook-body '{"name":"ada"}' --webhook-header X-Team=core
export const pipeline = () => {
  const request: HttpRequest | undefined = http.request();
  if (!request) {
    console.log("nobody called");
    return;
  }
  const { provider, eventType, method, url, headers, body, query } = request;
  console.log(`${method} by ${provider}, event "${eventType}", ${Object.keys(query).length} query parameters`);
  console.log(`path with query: ${url.startsWith("/")}`);

  // Any spelling of a header's name finds it; iteration gives lower case.
  console.log(`same team: ${headers["X-Team"]}, ${headers["x-team"]}`);
  console.log(`listed as x-team: ${Object.keys(headers).includes("x-team")}`);

  const { name } = JSON.parse(body);
  http.respond({
    status: 201,
    headers: { "Content-Type": "text/plain; charset=utf-8", "X-Greeted": name },
    body: `hello ${name}`,
  });
  // Only the first answer counts.
  http.respond({ status: 500, body: "too late" });
};
