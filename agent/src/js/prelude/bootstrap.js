(load, natives, groups) => {
  const define = Object.defineProperty;
  const { Date } = globalThis;
  let host;
  for (const [group, ...names] of groups.split(";").map((line) => line.split(" "))) {
    let made;
    for (const name of names) {
      const set = (value) => define(globalThis, name, { value, writable: true, configurable: true });
      const get = () => {
        made ??= load(group, (host ??= Object.assign(natives(), { Date })));
        set(made[name]);
        return made[name];
      };
      define(globalThis, name, { configurable: true, get, set });
    }
  }
  return (pipeline) => {
    for (const name of ["stage", "gate"])
      if (!(name in pipeline) && Object.isExtensible(pipeline))
        define(pipeline, name, { configurable: true, get: () => globalThis[name] });
  };
}
