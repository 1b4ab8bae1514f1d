// A pipeline of several files: code and data are taken in when the pipeline is set.
// Try it: pocketci run examples/modules/main.ts

// @ts-ignore TypeScript before 5.0 does not know the ending `.ts`; from 5.0 on set `allowImportingTsExtensions`.
import { next, version } from "./lib/version.ts";
import data from "./data.json";
import owners from "./owners.yml";
import settings from "./settings.yaml";

export const pipeline = async () => {
  console.log(`${data.name} ${version} at ${data.url} will be ${next("minor")}`);

  for (const { name, region } of settings.environments) {
    await runtime.run({
      name: `deploy ${name}`,
      image: "busybox",
      env: { REGION: region, VERSION: version, TEAM: owners[data.name] },
      command: { path: "sh", args: ["-c", 'echo "$TEAM deploys $VERSION to $REGION"'] },
      timeout: settings.timeout,
      failOnError: true,
    });
  }
};
