// Several commands in one container: files stay, the directory and the environment of a command do not.
// Try it: pocketci run examples/sandbox.ts
export const pipeline = async () => {
  const box: Sandbox = await runtime.startSandbox({ name: "workshop", image: "busybox", env: { STAGE: "test" } });
  const sh = async (script: string, more: Partial<ProcessConfig> & { env?: Record<string, string>; workDir?: string } = {}) => {
    const result = await box.exec({ command: { path: "sh", args: ["-c", script] }, failOnError: true, ...more });
    return result.stdout.trim();
  };

  try {
    await sh("mkdir cache && cd cache && echo 42 > answer");
    console.log(`the file stayed: ${await sh("cat cache/answer")}`);
    console.log(`environment: ${await sh('echo "$STAGE-$COLOUR"', { env: { COLOUR: "blue" } })}`);
    console.log(`and without it: ${await sh('echo "$STAGE-$COLOUR"')}`);
    console.log(`elsewhere: ${await sh("pwd", { workDir: "/tmp" })}`);
    console.log(`from stdin: ${await sh("tr a-z A-Z", { stdin: "loud" })}`);

    const seen: string[] = [];
    await sh("echo live", { onOutput: (stream, text) => seen.push(`${stream} ${text.trim()}`) });
    console.log(`seen: ${seen.join()}`);

    // A command that is stopped does not take the sandbox with it.
    const slow = await box.exec({ command: { path: "sleep", args: ["60"] }, timeout: "1s" });
    console.log(`slow: ${slow.status}; afterwards: ${await sh("echo still here")}`);
    const wrong = await box.exec({ command: { path: "sh", args: ["-c", "exit 4"] } });
    console.log(`wrong: ${wrong.code}, sandbox has an id: ${box.id.length > 0}`);
  } finally {
    await box.close();
  }
};
