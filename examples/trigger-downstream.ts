// Starts another run when this one is done, here of itself with other arguments. It needs a server.
// Try it: pocketci set-pipeline examples/trigger-downstream.ts && pocketci pipeline run trigger-downstream
export const pipeline = async () => {
  if (pipelineContext.triggeredBy === "pipeline") {
    console.log(`downstream: ${pipelineContext.args.join(" ")}, jobs ${pipelineContext.targetJobs.join(" ")}`);
    return;
  }
  await runtime.run({ name: "build", image: "busybox", command: { path: "echo", args: ["built"] } });

  const { runID } = await triggerPipeline(pipelineContext.pipelineName, { jobs: ["deploy"], args: ["version", "1.2.3"] });
  console.log(`started another run: ${runID !== "" && runID !== pipelineContext.runID}`);

  await triggerPipeline("there-is-no-such-pipeline").catch(() => console.log("an unknown pipeline is an error"));
};
