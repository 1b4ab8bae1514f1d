// An own `const pipeline` hides the global of that name; the author finds `stage` and `gate` on it all the same.
(pipeline) => {
  for (const name of ["stage", "gate"]) {
    if (!(name in pipeline) && Object.isExtensible(pipeline)) {
      Object.defineProperty(pipeline, name, { configurable: true, get: () => globalThis[name] });
    }
  }
}
