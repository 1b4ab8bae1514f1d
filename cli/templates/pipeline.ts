// A pipeline is a program. This one greets whoever calls its webhook, then goes on working.
// Every global is described in pocketci.d.ts; an editor that knows TypeScript completes them.
const pipeline = async () => {
  const req = http.request();
  const name: string = req ? (JSON.parse(req.body || "{}").name ?? "stranger") : (pipelineContext.args[0] ?? "nobody");

  // The caller has its answer here; everything below goes on without it.
  http.respond({ status: 200, body: `hello ${name}\n` });

  const result = await runtime.run({
    name: "greet",
    image: "busybox",
    command: { path: "sh", args: ["-c", 'echo "hello $NAME"; uname -s'] },
    env: { NAME: name },
    failOnError: true,
  });
  console.log(`greeted in ${result.durationMs} ms`);
};

export { pipeline };
