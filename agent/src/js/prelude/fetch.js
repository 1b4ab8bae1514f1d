(host) => {
  const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
  const normalName = (name) => {
    const text = String(name);
    if (!token.test(text)) throw new TypeError(`Headers: ${JSON.stringify(text)} is no header name`);
    return text.toLowerCase();
  };
  const normalValue = (value) => {
    const text = String(value).replace(/^[\t\n\r ]+|[\t\n\r ]+$/g, "");
    if (/[\0\r\n]/.test(text)) throw new TypeError("Headers: a value has a line break or a NUL character");
    return text;
  };

  class Headers {
    #list = new Map();
    constructor(init) {
      if (init === undefined || init === null) return;
      const pairs = typeof init[Symbol.iterator] === "function" ? init : Object.entries(init);
      for (const [name, value] of pairs) this.append(name, value);
    }
    append(name, value) {
      const key = normalName(name);
      const old = this.#list.get(key);
      this.#list.set(key, old === undefined ? normalValue(value) : `${old}, ${normalValue(value)}`);
    }
    delete(name) {
      this.#list.delete(normalName(name));
    }
    get(name) {
      return this.#list.get(normalName(name)) ?? null;
    }
    has(name) {
      return this.#list.has(normalName(name));
    }
    set(name, value) {
      this.#list.set(normalName(name), normalValue(value));
    }
    forEach(callback, self) {
      for (const [name, value] of this) callback.call(self, value, name, this);
    }
    *entries() {
      for (const name of [...this.#list.keys()].sort()) yield [name, this.#list.get(name)];
    }
    *keys() {
      for (const [name] of this.entries()) yield name;
    }
    *values() {
      for (const [, value] of this.entries()) yield value;
    }
    [Symbol.iterator]() {
      return this.entries();
    }
    get [Symbol.toStringTag]() {
      return "Headers";
    }
  }

  const bytesOf = (body) => {
    if (body === undefined || body === null) return new Uint8Array();
    if (body instanceof ArrayBuffer) return new Uint8Array(body.slice(0));
    if (ArrayBuffer.isView(body)) return new Uint8Array(body.buffer.slice(body.byteOffset, body.byteOffset + body.byteLength));
    return host.utf8(String(body));
  };

  class Response {
    #body;
    #used = false;
    constructor(body = null, init = {}) {
      const { status = 200, statusText = "", headers, url = "", redirected = false } = init;
      if (!Number.isInteger(status) || status < 100 || status > 599) {
        throw new RangeError("Response: status must be a whole number from 100 to 599");
      }
      this.#body = bytesOf(body);
      const made = { status, statusText: String(statusText), headers: new Headers(headers), url, redirected };
      for (const [name, value] of Object.entries(made)) {
        Object.defineProperty(this, name, { value, enumerable: true });
      }
      Object.defineProperty(this, "ok", { value: status >= 200 && status <= 299, enumerable: true });
    }
    #take() {
      if (this.#used) throw new TypeError("Response: the body was read already; use clone() to read it twice");
      this.#used = true;
      return this.#body;
    }
    get bodyUsed() {
      return this.#used;
    }
    async bytes() {
      return this.#take();
    }
    async arrayBuffer() {
      return this.#take().buffer;
    }
    async text() {
      return host.text(this.#take(), "utf-8", false);
    }
    async json() {
      const text = host.text(this.#take(), "utf-8", false);
      try {
        return JSON.parse(text);
      } catch (cause) {
        const start = text.slice(0, 60).replace(/\s+/g, " ");
        throw new SyntaxError(`Response: the body is no JSON (${cause.message}); it begins with ${JSON.stringify(start)}`, { cause });
      }
    }
    clone() {
      if (this.#used) throw new TypeError("Response: the body was read already");
      const { status, statusText, headers, url, redirected } = this;
      return new Response(this.#body, { status, statusText, headers, url, redirected });
    }
    get [Symbol.toStringTag]() {
      return "Response";
    }
  }

  const contentType = (body) => {
    if (typeof body === "string") return "text/plain;charset=UTF-8";
    if (body instanceof URLSearchParams) return "application/x-www-form-urlencoded;charset=UTF-8";
    return undefined;
  };

  const fetch = (input, options) => {
    const { method = "GET", headers, body = null, timeout, redirect = "follow", signal } = options ?? {};
    if (input === undefined) throw new TypeError("fetch: a URL is expected");
    const sent = new Headers(headers);
    const binary = body instanceof ArrayBuffer || ArrayBuffer.isView(body);
    if (body !== null && !binary && typeof body !== "string" && !(body instanceof URLSearchParams)) {
      throw new TypeError("fetch: body must be a string, a Uint8Array, an ArrayBuffer or URLSearchParams; use JSON.stringify for an object");
    }
    const type = contentType(body);
    if (type !== undefined && !sent.has("content-type")) sent.set("content-type", type);
    const request = { url: String(input), method: String(method).toUpperCase(), headers: [...sent], timeout, redirect };
    if (body !== null && (request.method === "GET" || request.method === "HEAD")) {
      throw new TypeError(`fetch: a ${request.method} request cannot have a body`);
    }
    signal?.throwIfAborted();
    const payload = body === null || binary ? body : String(body);
    const [promise, id] = host.start("fetch", JSON.stringify(request), payload);
    const response = promise.then(({ body, ...init }) => new Response(body, init));
    if (!signal) return response;
    return new Promise((resolve, reject) => {
      const stop = () => {
        host.abort(id);
        reject(signal.reason);
      };
      signal.addEventListener("abort", stop, { once: true });
      response.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
    });
  };
  return { fetch: async (input, options) => fetch(input, options), Headers, Response };
}
