// Defines globals that come into being when they are first looked at. `load(group, host)` answers an object with a value for
// each of its names; `natives()` makes the functions they are built on, once. Returns what gives an exported pipeline the
// members of the global that it hides.
(load, natives) => {
  const define = Object.defineProperty;
  let host;
  const lazy = (group, names) => {
    let made;
    for (const name of names) {
      const settle = (value) => define(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
      define(globalThis, name, {
        configurable: true,
        get() {
          made ??= load(group, (host ??= natives()));
          settle(made[name]);
          return made[name];
        },
        set: settle,
      });
    }
  };
  lazy("runtime", ["runtime"]);
  lazy("volumes", ["volumes"]);
  lazy("fetch", ["fetch", "Headers", "Response"]);
  lazy("url", ["URL", "URLSearchParams"]);
  lazy("text", ["TextEncoder", "TextDecoder", "atob", "btoa"]);
  lazy("abort", ["AbortController", "AbortSignal"]);
  lazy("crypto", ["crypto"]);
  lazy("assert", ["assert", "AssertionError"]);
  lazy("pipeline", ["pipeline", "stage", "gate"]);
  lazy("notify", ["notify"]);
  lazy("storage", ["storage"]);
  lazy("outside", ["webhook", "event", "triggerPipeline"]);
  lazy("yaml", ["yaml", "YAML"]);
  lazy("performance", ["performance"]);
  lazy("clone", ["structuredClone"]);
  return (pipeline) => {
    for (const name of ["stage", "gate"]) {
      if (!(name in pipeline) && Object.isExtensible(pipeline)) {
        define(pipeline, name, { configurable: true, get: () => globalThis[name] });
      }
    }
  };
}
