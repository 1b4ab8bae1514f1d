(host, request, more) => {
  const define = Object.defineProperty;
  const lazy = (target, name, enumerable, make) => {
    let made = false;
    let value;
    const set = (given) => {
      made = true;
      value = given;
    };
    const get = () => {
      if (!made) set(make());
      return value;
    };
    define(target, name, { configurable: true, enumerable, get, set });
  };
  const parse = (text) => {
    try {
      return JSON.parse(text);
    } catch {
      return undefined;
    }
  };
  const file = ({ index, ...about }) => {
    const hidden = (name, value) => define(about, name, { value, configurable: true, writable: true });
    hidden("$file", index);
    hidden("text", async () => host.text(index));
    hidden("json", async () => JSON.parse(host.text(index)));
    hidden("bytes", async () => host.bytes(index));
    hidden("arrayBuffer", async () => host.bytes(index).buffer);
    return about;
  };
  const { files, bodyFile, ...plain } = more;
  if (!("body" in request)) {
    const { query } = request;
    delete request.query;
    lazy(request, "body", true, () => host.text(-1));
    request.query = query;
  }
  Object.assign(request, plain);
  request.files = files.map(file);
  lazy(request, "bodyFile", false, () => file(bodyFile));
  lazy(request, "bodyEncoding", false, () => (host.isText() ? "utf-8" : "binary"));
  lazy(request, "bodyBase64", false, () => host.base64());
  lazy(request, "form", false, () => {
    const fields = host.form();
    if (fields === null) return null;
    for (const name of Object.keys(fields)) {
      if (fields[name].length === 1) define(fields, name, { value: fields[name][0] });
    }
    return fields;
  });
  lazy(request, "payload", false, () => {
    const isUpload = /^\s*multipart\//i.test(plain.contentType);
    const direct = isUpload ? undefined : parse(host.text(-1));
    if (direct !== undefined) return direct;
    const field = request.form?.payload;
    return parse(Array.isArray(field) ? field[0] : field) ?? null;
  });
  define(request, "arrayBuffer", { configurable: true, writable: true, value: async () => host.bytes(-1).buffer });
  return request;
}
