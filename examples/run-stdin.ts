// Feeds a step: text, bytes or a whole buffer. Without `stdin` a program reads nothing and ends.
// Try it: pocketci run examples/run-stdin.ts
const feed = async (name: string, args: string[], stdin?: string | Uint8Array | ArrayBuffer) => {
  const result = await runtime.run({ name, image: "busybox", command: { path: args[0], args: args.slice(1) }, stdin });
  return result.stdout.trim();
};

export const pipeline = async () => {
  const csv = "name,points\nada,36\ngrace,6\n";
  const sum = await feed("sum", ["awk", "-F,", "NR > 1 { total += $2 } END { print total }"], csv);
  console.log(`the points are ${sum}`);

  // 0x00 and 0xff arrive as they are; text could not carry them.
  const bytes = new Uint8Array([0x00, 0xff, 0x0a, 0x80]);
  const count = await feed("count bytes", ["wc", "-c"], bytes);
  console.log(`${count} bytes arrived`);

  const hash = await feed("hash", ["sha256sum"], bytes.buffer);
  const expected = await crypto.subtle.digest("SHA-256", bytes);
  const hex = [...new Uint8Array(expected)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  console.log(hash.startsWith(hex) ? "the hashes agree" : `the hashes differ: ${hash} and ${hex}`);

  const nothing = await feed("no input", ["wc", "-c"]);
  console.log(`without stdin: ${nothing} bytes`);
};
