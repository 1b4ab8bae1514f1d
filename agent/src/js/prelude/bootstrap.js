// Defines globals that come into being when they are first looked at.
// `groups` is a list of [names, load]; `load()` answers an object with a value for each name.
((define) => (groups) => {
  for (const [names, load] of groups) {
    let made;
    for (const name of names) {
      const settle = (value) =>
        define(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
      define(globalThis, name, {
        configurable: true,
        enumerable: false,
        get() {
          made ??= load();
          settle(made[name]);
          return made[name];
        },
        set: settle,
      });
    }
  }
})(Object.defineProperty)
