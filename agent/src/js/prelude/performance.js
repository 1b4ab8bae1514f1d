(host) => {
  const timeOrigin = host.startedAt();
  const performance = { now: () => host.elapsed(), timeOrigin, toJSON: () => ({ timeOrigin }) };
  return { performance: Object.freeze(performance) };
}
