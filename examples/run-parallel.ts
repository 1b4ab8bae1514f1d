// Steps that do not need each other run side by side; this takes one second, not three.
// Try it: pocketci run examples/run-parallel.ts
export const pipeline = async () => {
  const platforms = ["linux-amd64", "linux-arm64", "windows-amd64"];
  const began = performance.now();

  const builds = await Promise.all(
    platforms.map((platform) =>
      runtime.run({
        name: `build ${platform}`,
        image: "busybox",
        env: { PLATFORM: platform },
        command: { path: "sh", args: ["-c", 'sleep 1; echo "app-$PLATFORM"'] },
      }),
    ),
  );

  const artifacts = builds.map((build) => build.stdout.trim());
  console.log(`built ${artifacts.join(", ")}`);
  const sum = builds.reduce((total, build) => total + build.durationMs, 0);
  console.log(performance.now() - began < sum ? "faster than one after the other" : "not faster");
};
