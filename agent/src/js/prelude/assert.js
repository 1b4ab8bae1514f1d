(host) => {
  class AssertionError extends Error {
    constructor(message, actual, expected) {
      super(message);
      this.name = "AssertionError";
      this.actual = actual;
      this.expected = expected;
    }
  }
  const same = (a, b, seen = new Map()) => {
    if (Object.is(a, b) || a === b) return true;
    if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
    if (Object.getPrototypeOf(a) !== Object.getPrototypeOf(b)) return false;
    if (seen.get(a) === b) return true;
    seen.set(a, b);
    if (a instanceof Date) return Object.is(a.getTime(), b.getTime());
    if (a instanceof RegExp) return String(a) === String(b);
    if (a instanceof Error && (a.name !== b.name || a.message !== b.message)) return false;
    if (a instanceof Map) return a.size === b.size && [...a].every(([key, value]) => b.has(key) && same(value, b.get(key), seen));
    if (a instanceof Set) return a.size === b.size && [...a].every((one) => b.has(one) || [...b].some((other) => same(one, other, seen)));
    if (a instanceof ArrayBuffer) return same(new Uint8Array(a), new Uint8Array(b), seen);
    const keys = Object.keys(a);
    return keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && same(a[key], b[key], seen));
  };
  const show = (value) => host.show(value);
  const fail = (message, said, actual, expected) => {
    throw new AssertionError(message === undefined ? said : `${message}\n${said}`, actual, expected);
  };
  const search = (pattern) => (pattern instanceof RegExp ? new RegExp(pattern.source, pattern.flags.replace(/[gy]/g, "")) : new RegExp(String(pattern)));
  const assert = {
    equal(actual, expected, message) {
      if (!same(actual, expected)) fail(message, `not equal:\nexpected: ${show(expected)}\nactual:   ${show(actual)}`, actual, expected);
    },
    notEqual(actual, expected, message) {
      if (same(actual, expected)) fail(message, `expected something else than ${show(expected)}`, actual, expected);
    },
    containsString(text, pattern, message) {
      if (!search(pattern).test(String(text))) fail(message, `expected ${show(text)} to contain ${show(pattern)}`, text, pattern);
    },
    truthy(value, message) {
      if (!value) fail(message, `expected ${show(value)} to be truthy`, value, true);
    },
    containsElement(array, element, message) {
      if (!Array.isArray(array)) throw new TypeError("assert.containsElement: an array is expected");
      if (!array.some((one) => same(one, element))) fail(message, `expected ${show(array)} to contain ${show(element)}`, array, element);
    },
    async eventuallyContainsString(getter, pattern, options, intervalMs, message) {
      const set = typeof options === "object" && options !== null ? options : { timeoutMs: options, intervalMs, message };
      const expression = search(pattern);
      const end = performance.now() + (set.timeoutMs ?? 1000);
      for (;;) {
        const text = String(await getter());
        if (expression.test(text)) return;
        if (performance.now() >= end) fail(set.message, `expected ${show(text)} to contain ${show(pattern)} in the end`, text, pattern);
        await new Promise((resolve) => setTimeout(resolve, set.intervalMs ?? 50));
      }
    },
  };
  return { assert, AssertionError };
}
