(host) => {
  const hashes = ["SHA-1", "SHA-256", "SHA-384", "SHA-512"];
  const hashName = (algorithm) => {
    const name = String(typeof algorithm === "object" && algorithm !== null ? algorithm.name : algorithm).toUpperCase();
    if (!hashes.includes(name)) {
      throw Object.assign(new Error(`crypto.subtle: ${JSON.stringify(name)} is not supported; ${hashes.join(", ")} are`), { name: "NotSupportedError" });
    }
    return name;
  };
  const algorithmName = (algorithm) => String(typeof algorithm === "object" && algorithm !== null ? algorithm.name : algorithm).toUpperCase();
  const hmacOnly = (algorithm) => {
    if (algorithmName(algorithm) !== "HMAC") {
      throw Object.assign(new Error("crypto.subtle: HMAC is the only algorithm for keys"), { name: "NotSupportedError" });
    }
  };
  const copy = (data) => {
    if (data instanceof ArrayBuffer) return new Uint8Array(data.slice(0));
    if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength));
    throw new TypeError("crypto.subtle: a Uint8Array or an ArrayBuffer is expected");
  };
  const keys = new WeakMap();
  const secretOf = (algorithm, key, usage) => {
    hmacOnly(algorithm);
    const secret = keys.get(key);
    if (secret === undefined) throw new TypeError("crypto.subtle: a key from importKey is expected");
    if (!key.usages.includes(usage)) {
      throw Object.assign(new Error(`crypto.subtle: the key was not imported for ${JSON.stringify(usage)}`), { name: "InvalidAccessError" });
    }
    return secret;
  };
  const sameBytes = (a, b) => {
    let different = a.length ^ b.length;
    for (let at = 0; at < a.length; at += 1) different |= a[at] ^ (b[at] ?? 0);
    return different === 0;
  };
  const subtle = {
    digest: async (algorithm, data) => host.digest(hashName(algorithm), copy(data)).buffer,
    importKey: async (format, data, algorithm, extractable, usages) => {
      hmacOnly(algorithm);
      if (format !== "raw") throw Object.assign(new Error("crypto.subtle: the format \"raw\" is the only one"), { name: "NotSupportedError" });
      const secret = copy(data);
      if (secret.length === 0) throw Object.assign(new Error("crypto.subtle: an HMAC key must not be empty"), { name: "DataError" });
      const key = Object.freeze({
        type: "secret",
        algorithm: { name: "HMAC", hash: { name: hashName(algorithm.hash) }, length: secret.length * 8 },
        extractable: Boolean(extractable),
        usages: [...usages],
      });
      keys.set(key, secret);
      return key;
    },
    sign: async (algorithm, key, data) => host.hmac(key.algorithm.hash.name, secretOf(algorithm, key, "sign"), copy(data)).buffer,
    verify: async (algorithm, key, signature, data) =>
      sameBytes(host.hmac(key.algorithm.hash.name, secretOf(algorithm, key, "verify"), copy(data)), copy(signature)),
  };
  const integers = [Uint8Array, Int8Array, Uint8ClampedArray, Uint16Array, Int16Array, Uint32Array, Int32Array, BigUint64Array, BigInt64Array];
  const getRandomValues = (array) => {
    if (!integers.some((type) => array instanceof type)) throw new TypeError("crypto.getRandomValues: an integer typed array is expected");
    if (array.byteLength > 65536) throw Object.assign(new Error("crypto.getRandomValues: at most 65536 bytes at a time"), { name: "QuotaExceededError" });
    new Uint8Array(array.buffer, array.byteOffset, array.byteLength).set(host.random(array.byteLength));
    return array;
  };
  return { crypto: { subtle, getRandomValues, randomUUID: () => host.uuid() } };
}
