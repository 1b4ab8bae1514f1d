//! Gets, puts and checks of a job: which version, what they see, what is told at once.

use crate::bench::{Bench, Ran, Server, Wanted};
use pocketci_proto::agent as pb;
use pocketci_proto::agent::yaml_job::Work;
use std::sync::Arc;

on_both!(
    a_get_fetches_the_chosen_version_and_its_metadata_are_vars,
    a_put_records_its_version_at_once_and_is_fetched,
    a_put_sees_what_its_inputs_say,
    asserts_of_jobs_name_gets_and_puts,
    a_check_sends_its_versions_or_says_why_not,
    a_type_whose_vars_are_unknown_spoils_only_its_own_resources,
);

const SOURCE: &str = r#"
resource_types:
- {name: broken, type: mock, source: {mirror_self: ((nowhere))}}
- {name: own-mock, type: mock, source: {mirror_self: true}}
resources:
- {name: res, type: mock, source: {create_files: {file: ((content))}, metadata: [{name: author, value: ann}]}}
- {name: spoilt, type: broken, source: {}}
- {name: of-own, type: own-mock, source: {}}
jobs:
- {name: all, plan: [{get: res}, {get: spoilt}, {get: of-own}]}
- name: job
"#;

fn input(name: &str, resource: &str, version: &str) -> pb::ChosenInput {
    pb::ChosenInput {
        name: name.to_owned(),
        resource: resource.to_owned(),
        version_json: format!(r#"{{"version": "{version}"}}"#),
    }
}

async fn run(bench: &Bench, server: &Arc<Server>, plan: &str, inputs: Vec<pb::ChosenInput>) -> Ran {
    let yaml = format!("{SOURCE}{plan}");
    let mut wanted = Wanted::of(&yaml);
    wanted.more.inputs = inputs;
    wanted.more.build_number = "7".to_owned();
    let env = [
        ("BUILD_CREATED_BY", "bob"),
        ("ATC_EXTERNAL_URL", "http://ci.test"),
    ];
    wanted.more.build_env = env.map(|(name, value)| (name.into(), value.into())).into();
    bench.run_at(server, wanted).await
}

fn server() -> Arc<Server> {
    Arc::new(Server::with_secrets([("content", "from a secret")]))
}

async fn a_get_fetches_the_chosen_version_and_its_metadata_are_vars(bench: Bench) {
    let plan = r#"
  plan:
  - in_parallel:
    - get: renamed
      resource: res
      params: {create_files_via_params: {more: "v((.:unset))"}}
      attempts: 2
    - try: {get: renamed-2, resource: res}
  - task: never
    config: {platform: linux, image: IMAGE, run: {path: echo}}
"#;
    let server = server();
    let ran = run(&bench, &server, plan, vec![input("renamed", "res", "a")]).await;
    assert_eq!(ran.outcome, "errored", "{ran:#?}");
    assert!(
        ran.message.contains("undefined vars: .:unset"),
        "{}",
        ran.message
    );
    assert!(
        ran.system
            .contains("no version of resource \"res\" was chosen"),
        "{ran:#?}"
    );
    let plan = r#"
  plan:
  - {get: renamed, resource: res, params: {create_files_via_params: {more: given}}}
  - task: show
    config:
      platform: linux
      image: IMAGE
      inputs: [{name: renamed}]
      params: {AUTHOR: ((.:renamed.author))}
      run: {path: sh, args: [-c, 'cat renamed/version; echo; wc -c < renamed/file; cat renamed/more; echo; echo $AUTHOR $ATC_EXTERNAL_URL; env | grep BUILD_ || true']}
"#;
    let ran = run(&bench, &server, plan, vec![input("renamed", "res", "v1")])
        .await
        .succeeded();
    let lines: Vec<&str> = ran.stdout("show").lines().map(str::trim).collect();
    assert_eq!(
        lines,
        ["v1", "13", "given", "ann http://ci.test"],
        "no BUILD_ in tasks"
    );
    assert_eq!(
        server.saved(),
        [r#"get renamed [{"name":"author","value":"ann"}]"#]
    );
    assert_eq!(ran.step("renamed").kind, "get");
}

async fn a_put_records_its_version_at_once_and_is_fetched(bench: Bench) {
    let plan = r#"
  plan:
  - {put: res, params: {version: made, print_env: true}, get_params: {create_files_via_params: {got: it}}}
  - task: show
    config: {platform: linux, image: IMAGE, inputs: [{name: res}], run: {path: sh, args: [-c, 'cat res/version; ls res | wc -l']}}
  - {put: other, resource: res, params: {version: two}, no_get: true}
  - task: fails
    config: {platform: linux, image: IMAGE, inputs: [{name: other}], run: {path: "true"}}
  on_error: {put: hook, resource: res, no_get: true, params: {version: three, print_env: true}}
"#;
    let server = server();
    let ran = run(&bench, &server, plan, Vec::new()).await;
    assert_eq!(
        ran.message, "task \"fails\": missing inputs: other",
        "{ran:#?}"
    );
    let puts: Vec<String> = server.saved();
    assert_eq!(puts.len(), 3, "{puts:?}");
    assert!(
        puts[0].starts_with(r#"put res {"version":"made"} "#),
        "{puts:?}"
    );
    assert!(ran.stdout("show").starts_with("made"), "{ran:#?}");
    let put = ran.steps.values().find(|step| step.kind == "put").unwrap();
    let printed = format!("{}{}", put.stdout, put.stderr);
    for line in [
        "BUILD_NAME=7",
        "BUILD_JOB_NAME=job",
        "BUILD_PIPELINE_NAME=pipeline",
        "BUILD_TEAM_NAME=main",
    ] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
    assert!(!printed.contains("BUILD_CREATED_BY"), "{printed}");
    let hook = ran.step("hook");
    assert!(
        format!("{}{}", hook.stdout, hook.stderr).contains("BUILD_STATUS=errored"),
        "{hook:?}"
    );
    let paths: Vec<&str> = ran.steps.values().map(|step| step.path.as_str()).collect();
    assert_eq!(paths[..2], ["plan[0]", "plan[0].get"]);
}

async fn a_put_sees_what_its_inputs_say(bench: Bench) {
    let make = |name: &str| {
        format!(
            "  - {{task: {name}, config: {{platform: linux, image: IMAGE, outputs: [{{name: {name}}}], run: {{path: sh, args: [-c, 'echo {name}-version > {name}/file']}}}}}}\n"
        )
    };
    for (inputs, outcome) in [
        ("", "succeeded"),
        ("inputs: detect,", "succeeded"),
        ("inputs: all,", "succeeded"),
        ("inputs: [a],", "succeeded"),
        ("inputs: [b],", "not succeeded"),
        ("inputs: [],", "not succeeded"),
        ("inputs: [c],", "not succeeded"),
    ] {
        let plan = format!(
            "  plan:\n{}{}  - {{put: res, {inputs} no_get: true, params: {{file: a/file}}}}\n",
            make("a"),
            make("b")
        );
        let server = server();
        let ran = run(&bench, &server, &plan, Vec::new()).await;
        assert_eq!(
            ran.outcome == "succeeded",
            outcome == "succeeded",
            "{inputs}: {ran:#?}"
        );
        let saved = server.saved();
        assert_eq!(saved.len(), usize::from(outcome == "succeeded"), "{inputs}");
        assert!(
            saved.iter().all(|saved| saved.contains("a-version")),
            "{saved:?}"
        );
        if inputs.contains('c') && !inputs.contains("detect") {
            assert_eq!(ran.message, "missing inputs: c");
        }
    }
}

async fn asserts_of_jobs_name_gets_and_puts(bench: Bench) {
    let plan = "  assert: {execution: [check-res, get-res, t, put-res, get-res]}\n  plan: [{get: res}, \
                {task: t, config: {platform: linux, image: IMAGE, run: {path: 'true'}}}, {put: res, params: {version: made}}]\n";
    let ran = run(&bench, &server(), plan, vec![input("res", "res", "1")]).await;
    assert_eq!(ran.outcome, "succeeded", "{ran:#?}");
}

async fn check(bench: &Bench, server: &Arc<Server>, source: &str, check: pb::CheckResource) -> Ran {
    let yaml = format!(
        "resource_types:\n- {{name: t, type: mock, source: {source}}}\nresources:\n- {{name: res, type: mock, source: {source}}}\n\
         jobs:\n- {{name: job, plan: [{{get: res}}]}}\n"
    );
    let mut wanted = Wanted::of(&yaml);
    wanted.more.work = Some(Work::Check(check));
    bench.run_at(server, wanted).await
}

fn of(resource: &str, from: &str) -> pb::CheckResource {
    pb::CheckResource {
        resource: resource.to_owned(),
        from_version_json: from.to_owned(),
        resource_type: resource == "t",
    }
}

async fn a_check_sends_its_versions_or_says_why_not(bench: Bench) {
    let server = server();
    let first = "{initial_version: first}";
    let ran = check(&bench, &server, first, of("res", ""))
        .await
        .succeeded();
    assert_eq!(ran.step("res").kind, "check");
    check(&bench, &server, first, of("res", r#"{"version": "later"}"#))
        .await
        .succeeded();
    check(&bench, &server, "{no_initial_version: true}", of("res", ""))
        .await
        .succeeded();
    check(&bench, &server, first, of("t", "")).await.succeeded();
    assert_eq!(
        server.saved(),
        [
            r#"check res false [{"version":"first"}]"#,
            r#"check res false [{"version":"later"}]"#,
            "check res false []",
            r#"check t true [{"version":"first"}]"#,
        ]
    );
    let ran = check(&bench, &server, "{check_failure: sorry}", of("res", "")).await;
    assert_eq!(
        (ran.outcome.as_str(), ran.message.as_str()),
        ("failed", "check \"res\": exit code 1")
    );
    let ran = check(
        &bench,
        &server,
        "{initial_version: ((unknown))}",
        of("res", ""),
    )
    .await;
    assert_eq!(ran.outcome, "errored");
    assert!(
        ran.message.contains("undefined vars: unknown"),
        "{}",
        ran.message
    );
    let ran = check(&bench, &server, first, of("none", "")).await;
    assert_eq!(ran.message, "the pipeline declares no resource \"none\"");
    assert_eq!(server.saved().len(), 4);
}

async fn a_type_whose_vars_are_unknown_spoils_only_its_own_resources(bench: Bench) {
    let server = server();
    let plan = "  plan: [{get: res}, {get: spoilt}]\n";
    let inputs = vec![input("res", "res", "1"), input("spoilt", "spoilt", "1")];
    let ran = run(&bench, &server, plan, inputs).await;
    assert_eq!(ran.step("res").status, "complete", "{ran:#?}");
    assert_eq!(
        ran.message,
        "resource type \"broken\": undefined vars: nowhere"
    );
}
