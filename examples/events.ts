// Tells followers of the run what happens (`pocketci runs watch`, or GET /api/runs/:id/events).
// Try it: pocketci run examples/events.ts
export const pipeline = async () => {
  await event.emit("build.started");

  const size = await runtime.run({
    name: "build",
    image: "busybox",
    command: { path: "sh", args: ["-c", "printf 'binary' | wc -c"] },
  });
  await event.emit("build.finished", { version: "1.2.3", bytes: Number(size.stdout), tags: ["latest", "1.2"] });

  // The payload is any JSON value.
  await event.emit("coverage", 87.5);
  await event.emit("note", "deployed by hand");
  console.log(`4 events told, ${size.stdout.trim()} bytes built`);
};
