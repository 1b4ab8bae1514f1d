// What a run knows about itself.
// Try it: pocketci run examples/context.ts staging 1.2.3
export const pipeline = async () => {
  const { runID, pipelineID, pipelineName, triggeredBy, args, targetJobs, driverName, attempt } = pipelineContext;
  console.log(`ids given: ${runID !== "" && pipelineName !== "" && typeof pipelineID === "string"}`);
  console.log(`triggered by ${triggeredBy}, attempt ${attempt}`);
  console.log(`driver known: ${["docker", "native"].includes(driverName)}`);

  const [environment = "development", version = "latest"] = args;
  console.log(`deploying ${version} to ${environment}`);

  // Without jobs asked for, everything is wanted.
  const wanted = (job: string) => targetJobs.length === 0 || targetJobs.includes(job);
  if (wanted("deploy")) {
    await runtime.run({
      name: "deploy",
      image: "busybox",
      env: { ENVIRONMENT: environment, VERSION: version },
      command: { path: "sh", args: ["-c", 'echo "$VERSION is on $ENVIRONMENT"'] },
      failOnError: true,
    });
  }
};
