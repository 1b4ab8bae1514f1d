// What a container may use and where its image comes from. The native driver ignores all of it.
// Try it: pocketci run examples/run-limits.ts --driver docker (it needs the secret REGISTRY_PASSWORD)
export const pipeline = async () => {
  const wanted = new Set(pipelineContext.args);

  const small = await runtime.run({
    name: "small",
    image: "busybox",
    // Look for a newer image only when asked to: `pocketci run examples/run-limits.ts fresh`
    pull: wanted.has("fresh") ? "always" : "missing",
    registryAuth: { username: "ci", password: "secret:REGISTRY_PASSWORD", registry: "registry.example.com" },
    containerLimits: { cpu: 512, memory: "64MB" },
    // Refused unless the agent runs with --allow-privileged.
    privileged: wanted.has("privileged"),
    command: { path: "echo", args: ["small", "and", "unprivileged"] },
  });
  console.log(small.stdout.trim());

  const lonely = await runtime.run({
    name: "lonely",
    image: "busybox",
    pull: "never",
    network: false,
    containerLimits: { memory: 64 * 1024 * 1024 },
    command: { path: "sh", args: ["-c", "grep -c eth0 /proc/net/dev || true"] },
  });
  if (pipelineContext.driverName === "docker") {
    assert.equal(lonely.stdout.trim(), "0", "a container without network has no eth0");
  }
  console.log(`the lonely step ended with ${lonely.code}`);
};
