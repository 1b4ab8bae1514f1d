(host) => {
  class TextEncoder {
    get encoding() {
      return "utf-8";
    }
    encode(text = "") {
      return host.utf8(String(text));
    }
  }
  const labels = {
    "utf-8": "utf-8", utf8: "utf-8", "unicode-1-1-utf-8": "utf-8",
    latin1: "windows-1252", "iso-8859-1": "windows-1252", ascii: "windows-1252", "us-ascii": "windows-1252",
    "windows-1252": "windows-1252",
  };
  class TextDecoder {
    #fatal;
    #bom;
    constructor(label = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
      const encoding = labels[String(label).trim().toLowerCase()];
      if (encoding === undefined) {
        throw new RangeError(`TextDecoder: ${JSON.stringify(String(label))} is not supported; utf-8 and latin1 are`);
      }
      Object.defineProperty(this, "encoding", { value: encoding, enumerable: true });
      this.#fatal = Boolean(fatal);
      this.#bom = Boolean(ignoreBOM);
    }
    decode(bytes = new Uint8Array()) {
      const text = host.text(bytes, this.encoding, this.#fatal);
      return !this.#bom && text.startsWith("\ufeff") ? text.slice(1) : text;
    }
  }
  return { TextEncoder, TextDecoder, atob: (text) => host.atob(String(text)), btoa: (text) => host.btoa(String(text)) };
}
