// Timers: polling, a deadline of one's own, and what comes first.
// Try it: pocketci run examples/timers.ts
const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

export const pipeline = async () => {
  const order: string[] = [];
  setTimeout((word: string) => order.push(word), 0, "timer");
  queueMicrotask(() => order.push("microtask"));
  order.push("now");
  await sleep(20);
  console.log(`order: ${order.join(", ")}`);

  // An interval until it has ticked three times.
  let ticks = 0;
  await new Promise<void>((resolve) => {
    const ticker = setInterval(
      (step: number) => {
        ticks += step;
        if (ticks < 3) return;
        clearInterval(ticker);
        resolve();
      },
      10,
      1,
    );
  });
  console.log(`ticked ${ticks} times`);

  // A step and a deadline: whoever is first wins, and the timer of the loser is cleared.
  let deadline: number | undefined;
  const winner = await Promise.race([
    runtime.run({ name: "quick", image: "busybox", command: { path: "true" } }).then(() => "step"),
    new Promise<string>((resolve) => {
      deadline = setTimeout(() => resolve("deadline"), 60_000);
    }),
  ]);
  clearTimeout(deadline);
  console.log(`first: ${winner}`);

  const before = performance.now();
  await sleep(100);
  console.log(`slept: ${performance.now() - before >= 90}, began in this century: ${performance.timeOrigin > 1e12}`);
};
