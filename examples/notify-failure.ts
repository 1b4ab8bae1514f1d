// A message that cannot be delivered rejects with `{ success: false, error }`, unless it was sent async.
// Try it: pocketci run examples/notify-failure.ts https://example.com
const base = pipelineContext.args[0] ?? "https://example.com";

export const pipeline = async () => {
  notify.configure({ backends: { board: { type: "http", url: `${base}/missing`, method: "GET" } } });

  const attempt = async (what: string, sending: Promise<{ success: true }>) => {
    try {
      await sending;
      console.log(`${what}: sent`);
    } catch (failure) {
      const { success, error } = failure as { success: boolean; error: string };
      console.log(`${what}: success is ${success}, the error says something: ${error.length > 0}`);
    }
  };
  await attempt("answered 404", notify.send({ name: "board", message: "hello" }));
  await attempt("unknown name", notify.send({ name: "bord", message: "hello" }));
  await attempt("broken template", notify.send({ name: "board", message: "{{ Status" }));
  await attempt("one of many", notify.sendMultiple({ names: ["board", "bord"], message: "hello" }));
  await attempt("async", notify.send({ name: "board", message: "hello", async: true }));
};
