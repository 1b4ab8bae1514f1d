(host) => {
  const ask = (request) => host.now("storage", JSON.stringify(request), "storage");
  const json = (value) => {
    if (value === undefined || JSON.stringify(value) === undefined) throw new TypeError("storage: a value that JSON can hold is expected");
    return value;
  };
  return {
    storage: {
      get: (key) => ask({ verb: "get", key }),
      set: (key, value) => void ask({ verb: "set", key, value: json(value) }),
      put: (key, value) => void ask({ verb: "put", key, value: json(value) }),
      delete: (key) => ask({ verb: "delete", key }),
      list: (prefix = "") => ask({ verb: "list", prefix }),
      getAll: (prefix = "", fields = []) => ask({ verb: "getAll", prefix, fields }),
    },
  };
}
