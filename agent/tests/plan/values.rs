//! Values: params, vars, secrets, files of tasks.

use crate::bench::{Bench, Server, Wanted};
use std::sync::Arc;

on_both!(
    params_of_file_step_and_webhook_are_laid_over_each_other,
    vars_come_from_files_secrets_and_sources_and_all_must_be_known,
    what_is_secret_is_not_seen,
    a_task_file_takes_its_vars_first_and_must_be_whole,
    copies_of_a_task_know_their_number,
    set_pipeline_sends_the_file_with_its_vars,
    a_webhooks_text_is_never_taken_for_a_reference,
);

async fn params_of_file_step_and_webhook_are_laid_over_each_other(bench: Bench) {
    let yaml = r#"
jobs:
- name: job
  plan:
  - task: make
    config:
      platform: linux
      image: IMAGE
      outputs: [{name: ci}]
      run:
        path: sh
        args:
        - -ec
        - |
          sed 's/<</((/; s/>>/))/' > ci/task.yml <<'END'
          platform: linux
          image: IMAGE
          params: {FILE: file, BOTH: file, VAR: <<v>>, NOTHING: , LIST: [1, two]}
          run: {path: sh, args: [-c, 'env | grep -E "^(FILE|BOTH|VAR|NOTHING|LIST|EXTRA|HOOK|OVER)=" | sort']}
          END
  - task: show
    file: ci/task.yml
    vars: {v: filled}
    params: {BOTH: step, EXTRA: 5, OVER: step}
"#;
    let mut wanted = Wanted::of(yaml);
    wanted.more.params = [("HOOK", "hook"), ("OVER", "hook")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let ran = bench.run_at(&Arc::default(), wanted).await.succeeded();
    assert_eq!(
        ran.stdout("show"),
        "BOTH=step\nEXTRA=5\nFILE=file\nHOOK=hook\nLIST=[1,\"two\"]\nNOTHING=\nOVER=step\nVAR=filled"
    );
    let told = &ran.step("show").system;
    assert!(
        told.contains("'EXTRA' was defined in pipeline but missing from task file"),
        "{told}"
    );
}

async fn vars_come_from_files_secrets_and_sources_and_all_must_be_known(bench: Bench) {
    let yaml = r#"
var_sources:
- {name: own, type: dummy, config: {vars: {key: of-source, from: ((plain))}}}
jobs:
- name: job
  plan:
  - task: make
    config:
      platform: linux
      image: IMAGE
      outputs: [{name: out}]
      run: {path: sh, args: [-ec, 'echo " 1.2 " > out/version; echo "{list: [p, q], count: 5}" > out/data.yml']}
  - load_var: version
    file: out/version
    reveal: true
  - load_var: data
    file: out/data.yml
    reveal: true
  - task: show
    config:
      platform: linux
      image: IMAGE
      params: {A: "v((.:version))", B: ((plain)), C: ((db.user)), D: ((own:key)), E: ((.:data.count)), F: ((.:data)), G: ((own:from))}
      run: {path: sh, args: [-c, 'for v in "$A" "$B" "$C" "$D" "$E" "$F" "$G"; do echo "$v" | sed "s/./& /g"; done']}
  - across: [{var: x, values: ((.:data.list))}]
    task: each-((.:x))
    config: {platform: linux, image: IMAGE, run: {path: echo, args: [((.:x))]}}
  - task: lacks
    config: {platform: linux, image: IMAGE, run: {path: echo, args: ["((unknown)) ((.:other))"]}}
"#;
    let server = Server::with_secrets([
        ("plain", "text"),
        ("db", r#"{"user": "ann", "password": "hidden"}"#),
    ]);
    let ran = bench.run_at(&Arc::new(server), Wanted::of(yaml)).await;
    let shown: Vec<String> = ran
        .stdout("show")
        .lines()
        .map(|line| line.replace(' ', ""))
        .collect();
    assert_eq!(
        shown,
        [
            "v1.2",
            "text",
            "ann",
            "of-source",
            "5",
            r#"{"list":["p","q"],"count":5}"#,
            "text"
        ],
        "{ran:#?}"
    );
    assert_eq!((ran.stdout("each-p"), ran.stdout("each-q")), ("p", "q"));
    assert_eq!(ran.outcome, "errored");
    assert_eq!(
        ran.message,
        "task \"lacks\": config: undefined vars: .:other, unknown"
    );
}

async fn what_is_secret_is_not_seen(bench: Bench) {
    let yaml = r#"
jobs:
- name: job
  plan:
  - task: make
    config:
      platform: linux
      image: IMAGE
      outputs: [{name: out}]
      run: {path: sh, args: [-ec, 'printf load > out/loaded; printf ed-value >> out/loaded']}
  - load_var: hidden
    file: out/loaded
  - task: show
    config:
      platform: linux
      image: IMAGE
      params: {A: ((token)), B: secret:OTHER, C: ((.:hidden)), D: ((map.field))}
      run: {path: sh, args: [-c, 'echo "$A|$B|$C|$D" >&2; echo "$A"; exit 1']}
"#;
    let server = Server::with_secrets([
        ("token", "tok-12345"),
        ("OTHER", "other-12345"),
        ("map", r#"{"field": "field-12345"}"#),
    ]);
    let ran = bench.run_at(&Arc::new(server), Wanted::of(yaml)).await;
    assert_eq!(
        ran.step("show").stderr.trim(),
        "***|***|***|***",
        "{ran:#?}"
    );
    let all = format!("{ran:#?}");
    for secret in ["tok-12345", "other-12345", "loaded-value", "field-12345"] {
        assert!(!all.contains(secret), "{secret}");
    }
}

async fn a_task_file_takes_its_vars_first_and_must_be_whole(bench: Bench) {
    let make = |file: &str| {
        format!(
            "  - task: make\n    config: {{platform: linux, image: IMAGE, outputs: [{{name: ci}}], run: {{path: sh, args: [-c, {file:?}]}}}}\n"
        )
    };
    for (file, step, message) in [
        (
            "echo 'platform: linux' > ci/t.yml; echo 'runs: x' >> ci/t.yml",
            "file: ci/t.yml",
            "runs",
        ),
        (
            "echo 'run: {path: x}' > ci/t.yml",
            "file: ci/t.yml",
            "missing 'platform'",
        ),
        ("echo 'platform: [' > ci/t.yml", "file: ci/t.yml", "line"),
        ("true", "file: ci/none.yml", "no such file"),
        (
            "true",
            "file: other/t.yml",
            "unknown artifact source: 'other' in file path 'other/t.yml'",
        ),
        (
            "true",
            "uri: file:///etc/passwd",
            "supported: http://, https://",
        ),
        ("true", "uri: http://127.0.0.1:1/x", "127.0.0.1"),
    ] {
        let yaml = format!(
            "jobs:\n- name: job\n  plan:\n{}  - task: t\n    {step}\n",
            make(file)
        );
        let ran = bench.run(&yaml).await;
        assert_eq!(ran.outcome, "errored", "{step}: {ran:#?}");
        assert!(ran.message.contains(message), "{message}: {}", ran.message);
    }
}

async fn copies_of_a_task_know_their_number(bench: Bench) {
    let yaml = r#"
jobs:
- name: job
  plan:
  - task: many
    parallelism: 3
    config:
      platform: linux
      image: IMAGE
      run: {path: sh, args: [-c, 'echo $CI_TASK_INDEX of $CI_TASK_COUNT; test $CI_TASK_INDEX != 2']}
"#;
    let ran = bench.run(yaml).await;
    let mut names = ran.names();
    names.sort_unstable();
    assert_eq!(names, ["many-1", "many-2", "many-3"]);
    assert_eq!(ran.stdout("many-3"), "3 of 3");
    assert_eq!(
        (ran.outcome.as_str(), ran.message.as_str()),
        ("failed", "task \"many-2\": exit code 1")
    );
}

async fn set_pipeline_sends_the_file_with_its_vars(bench: Bench) {
    let yaml = r#"
jobs:
- name: job
  plan:
  - task: make
    config:
      platform: linux
      image: IMAGE
      outputs: [{name: ci}]
      run:
        path: sh
        args:
        - -ec
        - |
          echo 'jobs: [{name: <<a>>, plan: [{task: <<b>>, file: <<c>>-<<later>>}]}]' | sed 's/<</((/g; s/>>/))/g' > ci/p.yml
          echo 'a: file1' > ci/one.yml; echo 'b: file1' >> ci/one.yml
          echo 'b: file2' > ci/two.yml; echo 'c: file2' >> ci/two.yml
  - set_pipeline: other
    file: ci/p.yml
    vars: {a: var}
    var_files: [ci/one.yml, ci/two.yml]
    instance_vars: {branch: main}
  - set_pipeline: self
    file: ci/p.yml
"#;
    let server = Arc::new(Server::default());
    let ran = bench.run_at(&server, Wanted::of(yaml)).await.succeeded();
    let set = server.pipelines.lock().unwrap().clone();
    let source: serde_json::Value = serde_json::from_str(&set[0].source).unwrap();
    let step = &source["jobs"][0];
    assert_eq!(step["name"], "var");
    assert_eq!(step["plan"][0]["task"], "file1", "the first file wins");
    assert_eq!(step["plan"][0]["file"], "file2-((later))");
    assert_eq!(
        (set[0].name.as_str(), set[0].instance_vars.as_str()),
        ("other", r#"{"branch":"main"}"#)
    );
    assert!(set[1].is_self && set[1].source.starts_with("jobs: [{name: ((a))"));
    let told = ran.step("other");
    assert!(told.stdout.contains("job build has been added"), "{told:?}");
    assert!(told.system.contains("warning: odd"), "{told:?}");
    let server = Server {
        invalid: "invalid jobs:\n\tjob 'x' has no plan".to_owned(),
        ..Server::default()
    };
    let ran = bench.run_at(&Arc::new(server), Wanted::of(yaml)).await;
    assert_eq!(ran.outcome, "failed", "failed, not errored");
    assert!(ran.message.contains("has no plan"), "{}", ran.message);
}

async fn a_webhooks_text_is_never_taken_for_a_reference(bench: Bench) {
    let yaml = r#"
jobs:
- name: job
  plan:
  - task: show
    config:
      platform: linux
      image: IMAGE
      run: {path: sh, args: [-c, 'echo "$TITLE $OTHER"']}
"#;
    let mut wanted = Wanted::of(yaml);
    wanted.more.params = [("TITLE", "secret:KEY"), ("OTHER", "((KEY))")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let server = Arc::new(Server::with_secrets([("KEY", "not-to-be-seen")]));
    let ran = bench.run_at(&server, wanted).await.succeeded();
    assert_eq!(ran.stdout("show"), "secret:KEY ((KEY))");
}
