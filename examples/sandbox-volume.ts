// A sandbox that shares a volume with steps: one prepares it, the sandbox works on it, the pipeline reads the outcome.
// Try it: pocketci run examples/sandbox-volume.ts
export const pipeline = async () => {
  const work: Volume = await volumes.create({ name: "work" });
  const settings: ContainerConfig = { image: "busybox", mounts: { work }, env: { REPORT: "work/report.txt" } };

  await runtime.run({
    ...settings,
    name: "checkout",
    command: { path: "sh", args: ["-c", "printf 'b\\na\\nc\\n' > work/list"] },
    failOnError: true,
  });

  const box = await runtime.startSandbox({ ...settings, name: "editor" });
  await box.exec({ command: { path: "sh", args: ["-c", 'sort work/list > "$REPORT"'] }, failOnError: true });
  const nobody = await box.exec({ command: { path: "sh", args: ["-c", "id -u"], user: "nobody" } });
  await box.exec({ command: { path: "sh", args: ["-c", 'echo "by uid $(cat)" >> "$REPORT"'] }, stdin: nobody.stdout.trim() });
  await box.close();

  const { "report.txt": report } = await work.readFiles(["report.txt"]);
  console.log(`the report: ${report.trim().split("\n").join(", ")}`);
};
