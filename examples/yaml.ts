// Reads and writes YAML: changes one value of a deployment and hands the text to a step.
// Try it: pocketci run examples/yaml.ts
const manifest = `
name: shop
replicas: 2
ports: [80, 443]
labels:
  tier: "web"
`;

export const pipeline = async () => {
  const deployment = yaml.parse(manifest);
  console.log(`${deployment.name} wants ${deployment.replicas} replicas on ports ${deployment.ports.join(" and ")}`);

  deployment.replicas = 5;
  const text = yaml.stringify(deployment);
  await runtime.run({
    name: "apply",
    image: "busybox",
    command: { path: "grep", args: ["replicas"] },
    stdin: text,
    failOnError: true,
  });
  assert.equal(yaml.parse(text), deployment);

  try {
    yaml.parse("steps:\n  - run: [1, 2\n");
  } catch (error) {
    console.log(`broken: ${error instanceof SyntaxError}, it names the place: ${/\d/.test((error as Error).message)}`);
  }

  // The old name still works.
  console.log(`YAML: ${YAML.parse("old: true").old}`);
};
