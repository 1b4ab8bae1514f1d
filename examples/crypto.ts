// Checks a download against its digest, signs a message, and draws random values.
// Try it: pocketci run examples/crypto.ts
const hex = (bytes: ArrayBuffer) => [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

export const pipeline = async () => {
  const file = new TextEncoder().encode("hello\n");
  const [digest, step] = await Promise.all([
    crypto.subtle.digest("SHA-256", file),
    runtime.run({ name: "digest", image: "busybox", command: { path: "sha256sum" }, stdin: file }),
  ]);
  console.log(`sha256 ${hex(digest)}`);
  console.log(`the step agrees: ${step.stdout.startsWith(hex(digest))}`);

  const lengths = await Promise.all(
    ["SHA-1", "SHA-384", "SHA-512"].map(async (name) => (await crypto.subtle.digest({ name }, file)).byteLength),
  );
  console.log(`other digests: ${lengths.join(" ")} bytes`);

  // The signature that GitHub would send in X-Hub-Signature-256.
  const secret = new TextEncoder().encode("It's a Secret to Everybody");
  const hmac = { name: "HMAC", hash: "SHA-256" } as const;
  const key: CryptoKey = await crypto.subtle.importKey("raw", secret, hmac, false, ["sign", "verify"]);
  const body = new TextEncoder().encode("Hello, World!");
  const signature = await crypto.subtle.sign("HMAC", key, body);
  console.log(`sha256=${hex(signature)}`);
  console.log(`genuine: ${await crypto.subtle.verify("HMAC", key, signature, body)}`);
  console.log(`forged: ${await crypto.subtle.verify({ name: "HMAC" }, key, signature, file)}`);
  console.log(`key: ${key.type} ${key.algorithm.name} ${key.algorithm.hash.name} ${key.usages.join("+")} ${key.extractable}`);

  const [one, two] = [crypto.randomUUID(), crypto.randomUUID()];
  console.log(`uuids: ${/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(one) && one !== two}`);
  const random = crypto.getRandomValues(new Uint32Array(8));
  console.log(`random: ${new Set(random).size > 1}`);
};
