(host) => {
  const timeOrigin = host.startedAt();
  const performance = { now: () => host.clock() - timeOrigin, timeOrigin, toJSON: () => ({ timeOrigin }) };
  return { performance: Object.freeze(performance) };
}
