// Mails the result of a build.
// Try it: pocketci run examples/notify-email.ts '' smtp.example.com:587 (it needs the secret SMTP_PASSWORD)
export const pipeline = async () => {
  notify.setConfigs({
    // A relay in the same network, without encryption or login.
    relay: {
      type: "smtp",
      smtpHost: pipelineContext.args[1] ?? "127.0.0.1:25",
      from: "ci@example.com",
      recipients: ["dev@example.com", "ops@example.com"],
      tls: "none",
      subject: "result of the build",
    },
    // How a provider wants it; port 465 would mean `tls`. Nothing is sent there today.
    office: {
      type: "smtp",
      smtpHost: "smtp.example.com:587",
      from: "ci@example.com",
      recipients: ["boss@example.com"],
      username: "ci",
      token: "secret:SMTP_PASSWORD",
      tls: "starttls",
    },
  });

  const tests = await runtime.run({ name: "test", image: "busybox", command: { path: "echo", args: ["12 passed"] } });
  notify.setContext({ pipelineName: "shop", status: tests.code === 0 ? "success" : "failure" });
  const sent = await notify.send({ name: "relay", message: `{{ PipelineName }} says ${tests.stdout}` });
  console.log(`mail sent: ${sent.success}`);
};
