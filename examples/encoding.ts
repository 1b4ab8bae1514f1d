// Text and bytes, base64, and deep copies.
// Try it: pocketci run examples/encoding.ts
export const pipeline = async () => {
  const encoder = new TextEncoder();
  const bytes = encoder.encode("grün ✓");
  console.log(`${encoder.encoding}: ${bytes.length} bytes for ${"grün ✓".length} characters`);
  console.log(`back: ${new TextDecoder().decode(bytes)}`);

  // Bytes that are not UTF-8: replaced, refused, or read as what they are.
  const old = new Uint8Array([0x67, 0x72, 0xfc, 0x6e]);
  console.log(`replaced: ${new TextDecoder("utf-8").decode(old) === "gr\ufffdn"}`);
  console.log(`latin1: ${new TextDecoder("latin1").decode(old.buffer)}`);
  try {
    new TextDecoder("utf8", { fatal: true }).decode(old);
  } catch {
    console.log("fatal: refused");
  }
  const marked = new Uint8Array([0xef, 0xbb, 0xbf, 0x61]);
  const lengths = [new TextDecoder().decode(marked).length, new TextDecoder("utf-8", { ignoreBOM: true }).decode(marked).length];
  console.log(`byte order mark: ${lengths.join(" or ")}, decoder: ${new TextDecoder().encoding}`);

  // The same base64 as the program of that name gives.
  const encoded = btoa("user:password");
  const step = await runtime.run({
    name: "decode",
    image: "busybox",
    command: { path: "base64", args: ["-d"] },
    stdin: encoded,
  });
  console.log(`${encoded} is ${step.stdout}, and ${atob(encoded)} here`);

  const original = { tags: new Set(["a"]), at: new Date(0), nested: { list: [1, 2] } };
  const copy = structuredClone(original);
  copy.nested.list.push(3);
  copy.tags.add("b");
  const sizes = (value: typeof original) => `${value.nested.list.length} and ${value.tags.size}`;
  console.log(`original ${sizes(original)}, copy ${sizes(copy)}`);
  console.log(`dates stay dates: ${copy.at.toISOString()}`);
};
