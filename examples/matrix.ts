// Fan-out and fan-in: every combination is tested, each writes its report, one step sums them up.
// Try it: pocketci run examples/matrix.ts
export const pipeline = async () => {
  const reports = await volumes.create({ name: "reports" });
  const combinations = ["1.21", "1.22"].flatMap((go) => ["sqlite", "postgres"].map((database) => ({ go, database })));

  await Promise.all(
    combinations.map(({ go, database }) =>
      runtime.run({
        name: `test ${go} ${database}`,
        image: "busybox",
        env: { GO: go, DATABASE: database },
        mounts: { reports },
        command: { path: "sh", args: ["-c", 'echo "$GO with $DATABASE: passed" > "reports/$GO-$DATABASE.txt"'] },
        failOnError: true,
      }),
    ),
  );

  const summary = await runtime.run({
    name: "summary",
    image: "busybox",
    mounts: { reports },
    command: { path: "sh", args: ["-c", "cat reports/*.txt | sort; echo \"$(cat reports/*.txt | grep -c passed) passed\""] },
  });
  console.log(`in all: ${summary.stdout.trim().split("\n").pop()}`);
};
