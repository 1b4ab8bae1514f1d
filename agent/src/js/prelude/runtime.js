(host) => {
  const sandbox = (id) =>
    Object.freeze({
      id,
      exec: (config) => host.exec(id, config),
      close: () => host.start("closeSandbox", JSON.stringify({ sandbox: id }))[0],
    });
  return {
    runtime: {
      run: (config) => host.run(config),
      startSandbox: (config) => host.startSandbox(config).then(sandbox),
    },
  };
}
