// Tells people on chat and by HTTP how the build went. Messages are templates.
// Try it: pocketci run examples/notify.ts https://example.com (it needs the secret CHAT_TOKEN)
const base = pipelineContext.args[0] ?? "https://example.com";
// Where `url` is absent the real Slack or Discord is called.
const team: Record<string, NotifyBackend> = {
  slack: { type: "slack", token: "secret:CHAT_TOKEN", channels: ["#builds"], recipients: ["U012AB3CD"], url: `${base}/slack` },
  teams: { type: "teams", webhook: `${base}/teams` },
  discord: { type: "discord", token: "secret:CHAT_TOKEN", channels: ["123456789"], url: `${base}/discord` },
  board: { type: "http", url: `${base}/board`, method: "PUT", headers: { "X-Token": "secret:CHAT_TOKEN" } },
};

export const pipeline = async () => {
  notify.configure({
    backends: team,
    context: {
      pipelineName: "shop",
      jobName: "build",
      buildID: pipelineContext.runID,
      status: "running",
      startTime: new Date().toISOString(),
      environment: { REGION: "eu" },
    },
  });
  // Go's spelling and the short one mean the same.
  const { success } = await notify.send({
    name: "slack",
    message: "{{ .PipelineName }}/{{ JobName }} in {{ Environment.REGION }} started",
  });
  console.log(`slack: ${success}`);

  const build = await runtime.run({ name: "build", image: "busybox", command: { path: "echo", args: ["built"] } });
  notify.updateContext({
    endTime: build.endedAt,
    duration: `${build.durationMs} ms`,
    taskResults: { build: { code: build.code } },
  });
  notify.updateJobName("deploy");
  notify.updateStatus(build.code === 0 ? "success" : "failure");
  const all = await notify.sendMultiple({
    names: ["slack", "teams", "discord", "board"],
    message:
      "{{ JobName }} #{{ BuildID }}: {{ Status }} with {{ TaskResults.build.code }}, " +
      "from {{ StartTime }} to {{ EndTime }}, {{ Duration }}",
  });
  console.log(`all four: ${all.success}`);

  // Or replace everything step by step; async does not wait.
  notify.setConfigs({ board: team.board });
  notify.setContext({ pipelineName: "shop", status: "idle" });
  await notify.send({ name: "board", message: "{{ .PipelineName }} is {{ .Status }}", async: true });
  await notify.sendMultiple({ names: ["board"], message: "bye", async: true });
  console.log("the rest is on its way");
};
