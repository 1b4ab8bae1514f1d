// `export default` works too, and the function need not be async: the run ends when everything it started has ended.
// Try it: pocketci run examples/default-export.ts
export default () => {
  // Nobody awaits this step; the run waits for it all the same, and would report its rejection.
  void runtime
    .run({ name: "later", image: "busybox", command: { path: "echo", args: ["still", "running"] } })
    .then((result) => console.log(`the step ended after the function: code ${result.code}`));
  console.log("the function returns now");
};
