// Looks at output while the step is running, and stops caring about the rest.
// Try it: pocketci run examples/run-output.ts
export const pipeline = async () => {
  let progress = 0;
  const warnings: string[] = [];
  let rest = "";

  const result = await runtime.run({
    name: "build",
    image: "busybox",
    command: {
      path: "sh",
      args: ["-c", "for part in 25 50 75 100; do echo progress $part; sleep 0.1; done; echo 'deprecated flag' >&2"],
    },
    onOutput: (stream: OutputStream, text: string) => {
      if (stream === "stderr") {
        warnings.push(text.trim());
        return;
      }
      // A piece may end anywhere, also in the middle of a line.
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) progress = Number(line.replace("progress ", ""));
    },
  });

  console.log(`reached ${progress} percent, ${warnings.length} warning: ${warnings.join("; ")}`);
  assert.containsString(result.stdout, "progress 25\nprogress 50\nprogress 75\nprogress 100");
};
