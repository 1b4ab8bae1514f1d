(host) => {
  class URLSearchParams {
    #pairs = [];
    #changed = () => {};
    constructor(init = "", changed) {
      if (changed !== undefined) this.#changed = changed;
      if (typeof init === "object" && init !== null) {
        const pairs = typeof init[Symbol.iterator] === "function" ? init : Object.entries(init);
        for (const pair of pairs) {
          const [name, value, ...more] = pair;
          if (value === undefined || more.length > 0) throw new TypeError("URLSearchParams: pairs of name and value are expected");
          this.#pairs.push([String(name), String(value)]);
        }
      } else {
        this.#pairs = JSON.parse(host.formParse(String(init).replace(/^\?/, "")));
      }
    }
    static refill(params, search) {
      params.#pairs = JSON.parse(host.formParse(search.replace(/^\?/, "")));
    }
    get size() {
      return this.#pairs.length;
    }
    append(name, value) {
      this.#pairs.push([String(name), String(value)]);
      this.#changed();
    }
    delete(name, value) {
      this.#pairs = this.#pairs.filter(([n, v]) => n !== String(name) || (value !== undefined && v !== String(value)));
      this.#changed();
    }
    get(name) {
      return this.#pairs.find(([n]) => n === String(name))?.[1] ?? null;
    }
    getAll(name) {
      return this.#pairs.filter(([n]) => n === String(name)).map(([, value]) => value);
    }
    has(name, value) {
      return this.#pairs.some(([n, v]) => n === String(name) && (value === undefined || v === String(value)));
    }
    set(name, value) {
      const at = this.#pairs.findIndex(([n]) => n === String(name));
      if (at < 0) this.#pairs.push([String(name), String(value)]);
      else {
        this.#pairs[at][1] = String(value);
        this.#pairs = this.#pairs.filter(([n], index) => index <= at || n !== String(name));
      }
      this.#changed();
    }
    sort() {
      this.#pairs.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
      this.#changed();
    }
    forEach(callback, self) {
      for (const [name, value] of this) callback.call(self, value, name, this);
    }
    *entries() {
      for (const [name, value] of this.#pairs) yield [name, value];
    }
    *keys() {
      for (const [name] of this.#pairs) yield name;
    }
    *values() {
      for (const [, value] of this.#pairs) yield value;
    }
    [Symbol.iterator]() {
      return this.entries();
    }
    toString() {
      return host.formEncode(JSON.stringify(this.#pairs));
    }
    get [Symbol.toStringTag]() {
      return "URLSearchParams";
    }
  }

  const { refill } = URLSearchParams;
  delete URLSearchParams.refill;
  const parts = ["protocol", "username", "password", "host", "hostname", "port", "pathname", "search", "hash"];

  class URL {
    #parts;
    #params;
    constructor(url, base) {
      const parsed = host.urlParse(String(url), base === undefined ? undefined : String(base));
      if (parsed === null) {
        throw new TypeError(`Invalid URL: ${JSON.stringify(String(url))}${base === undefined ? "" : ` with base ${JSON.stringify(String(base))}`}`);
      }
      this.#parts = parsed;
    }
    static canParse(url, base) {
      return host.urlParse(String(url), base === undefined ? undefined : String(base)) !== null;
    }
    static parse(url, base) {
      return URL.canParse(url, base) ? new URL(url, base) : null;
    }
    get href() {
      return this.#parts.href;
    }
    set href(href) {
      this.#parts = new URL(href).#parts;
      if (this.#params) refill(this.#params, this.search);
    }
    get origin() {
      return this.#parts.origin;
    }
    get searchParams() {
      this.#params ??= new URLSearchParams(this.search, () => this.#set("search", this.#params.toString()));
      return this.#params;
    }
    #set(name, value) {
      this.#parts = host.urlSet(this.href, name, String(value));
    }
    static {
      for (const name of parts) {
        Object.defineProperty(this.prototype, name, {
          configurable: true,
          enumerable: true,
          get() {
            return this.#parts[name];
          },
          set(value) {
            this.#set(name, value);
            if (name === "search" && this.#params) refill(this.#params, this.search);
          },
        });
      }
    }
    toString() {
      return this.href;
    }
    toJSON() {
      return this.href;
    }
    get [Symbol.toStringTag]() {
      return "URL";
    }
  }
  return { URL, URLSearchParams };
}
