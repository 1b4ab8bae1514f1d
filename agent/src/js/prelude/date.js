(host) => {
  const Real = host.Date;
  function Date(...parts) {
    if (new.target === undefined) return new Real(host.clock()).toString();
    return Reflect.construct(Real, parts.length === 0 ? [host.clock()] : parts, new.target);
  }
  const define = (name, value) => Object.defineProperty(Date, name, { value, writable: true, configurable: true });
  define("now", () => Math.floor(host.clock()));
  define("parse", Real.parse);
  define("UTC", Real.UTC);
  Object.defineProperty(Date, "length", { value: 7, configurable: true });
  Object.defineProperty(Date, "prototype", { value: Real.prototype, writable: false });
  Object.defineProperty(Real.prototype, "constructor", { value: Date, writable: true, configurable: true });
  return { Date };
}
