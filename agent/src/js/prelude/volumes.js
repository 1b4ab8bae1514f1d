(host) => {
  const nameOf = (volume) => (typeof volume === "string" ? volume : volume?.name);
  const readFiles = (volume, ...rest) => {
    const name = nameOf(volume);
    const paths = Array.isArray(rest[0]) ? rest[0] : rest;
    if (typeof name !== "string" || paths.length === 0 || paths.some((path) => typeof path !== "string")) {
      return Promise.reject(new TypeError("volumes.readFiles: a volume and an array of paths are expected"));
    }
    return host.start("readFiles", JSON.stringify({ volume: name, paths }))[0];
  };
  const create = (config = {}, ...rest) => {
    if (typeof config !== "object" || config === null || rest.length > 0) {
      return Promise.reject(new TypeError("volumes.create: one object is expected, for example { name: \"source\" }"));
    }
    return host.start("createVolume", JSON.stringify({ name: config.name }))[0].then(({ name, path }) =>
      Object.freeze({ name, path, readFiles: (...paths) => readFiles(name, ...paths) }),
    );
  };
  return { volumes: { create, readFiles } };
}
