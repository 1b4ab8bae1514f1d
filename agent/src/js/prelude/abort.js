(host) => {
  const named = (name, message) => Object.assign(new Error(message), { name });
  const secret = Symbol("abort");
  class AbortSignal {
    #aborted = false;
    #reason;
    #listeners = [];
    constructor(key) {
      if (key !== secret) throw new TypeError("AbortSignal: use new AbortController(), AbortSignal.abort() or AbortSignal.timeout()");
      this.onabort = null;
    }
    get aborted() {
      return this.#aborted;
    }
    get reason() {
      return this.#reason;
    }
    throwIfAborted() {
      if (this.#aborted) throw this.#reason;
    }
    addEventListener(type, listener, options) {
      if (type !== "abort" || listener == null) return;
      if (!this.#listeners.some((known) => known.listener === listener)) {
        this.#listeners.push({ listener, once: Boolean(options?.once) });
      }
    }
    removeEventListener(type, listener) {
      if (type === "abort") this.#listeners = this.#listeners.filter((known) => known.listener !== listener);
    }
    [secret](reason) {
      if (this.#aborted) return;
      this.#aborted = true;
      this.#reason = reason === undefined ? named("AbortError", "the operation was aborted") : reason;
      const event = { type: "abort", target: this };
      const listeners = this.#listeners;
      this.#listeners = listeners.filter(({ once }) => !once);
      if (typeof this.onabort === "function") this.onabort(event);
      for (const { listener } of listeners) {
        if (typeof listener === "function") listener.call(this, event);
        else listener.handleEvent?.(event);
      }
    }
    static abort(reason) {
      const signal = new AbortSignal(secret);
      signal[secret](reason);
      return signal;
    }
    static timeout(ms) {
      const signal = new AbortSignal(secret);
      host.alarm(() => signal[secret](named("TimeoutError", `the operation took longer than ${ms} ms`)), Number(ms));
      return signal;
    }
    static any(signals) {
      const all = [...signals];
      const signal = new AbortSignal(secret);
      const done = all.find((one) => one.aborted);
      if (done) signal[secret](done.reason);
      else for (const one of all) one.addEventListener("abort", () => signal[secret](one.reason), { once: true });
      return signal;
    }
    get [Symbol.toStringTag]() {
      return "AbortSignal";
    }
  }
  class AbortController {
    #signal = new AbortSignal(secret);
    get signal() {
      return this.#signal;
    }
    abort(reason) {
      this.#signal[secret](reason);
    }
    get [Symbol.toStringTag]() {
      return "AbortController";
    }
  }
  return { AbortController, AbortSignal };
}
