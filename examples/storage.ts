// Values that outlive the run: a build counter, and records that are changed in part.
// Try it twice: pocketci run examples/storage.ts
export const pipeline = async () => {
  const last = storage.get("counter") ?? { builds: 0 };
  storage.set("counter", { builds: last.builds + 1 });
  console.log(`counted: ${storage.get("counter").builds === last.builds + 1}`);

  // `put` replaces, `set` merges: objects are merged, null removes a member.
  storage.put("services/web", { version: "1.2.3", replicas: 2, owner: { team: "core", mail: "core@example.com" } });
  storage.set("services/web", { replicas: 3, owner: { mail: null } });
  storage.put("services/worker", { version: "1.2.0", replicas: 1 });
  console.log(`web: ${JSON.stringify(storage.get("services/web").owner)} ${storage.get("services/web").replicas}`);

  console.log(`keys: ${storage.list("services/").join(" ")}`);
  console.log(`more keys than these: ${storage.list().length > 2}`);
  for (const { path, payload } of storage.getAll("services/", ["version"])) {
    console.log(`${path} has ${JSON.stringify(payload)}`);
  }
  console.log(`whole values: ${storage.getAll("services/").every(({ payload }) => payload.replicas > 0)}`);

  console.log(`deleted: ${storage.delete("services/worker")}, again: ${storage.delete("services/worker")}`);
  console.log(`gone: ${storage.get("services/worker")}`);
};
