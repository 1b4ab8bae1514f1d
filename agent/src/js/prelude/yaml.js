(host) => {
  const yaml = {
    parse: (text) => JSON.parse(host.yamlParse(String(text))),
    stringify: (value) => {
      const json = JSON.stringify(value);
      if (json === undefined) throw new TypeError("yaml.stringify: a value that JSON can hold is expected");
      return host.yamlStringify(json);
    },
  };
  return { yaml, YAML: yaml };
}
