//! What only containers have: images, users, limits; and nothing is left of them.

use crate::bench::{Bench, Server, Wanted, docker_host};
use bollard::Docker;
use bollard::query_parameters::{ListContainersOptions, ListVolumesOptions};
use std::collections::HashMap;
use std::sync::Arc;

fn job(steps: &str) -> String {
    format!("jobs:\n- name: job\n  plan:\n{steps}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_runs_in_a_directory_by_its_name_as_its_user_who_may_write_there() {
    let bench = Bench::docker();
    let ran = bench
        .run(&job(r#"
  - task: unit
    config:
      platform: linux
      image: IMAGE
      outputs: [{name: out}]
      run:
        path: sh
        user: nobody
        args: [-ec, 'pwd; id -u; touch here out/there; ls -ln out | tail -1']
  - task: root
    config: {platform: linux, image: IMAGE, inputs: [{name: out}], run: {path: sh, args: [-ec, 'id -u; ls out; pwd']}}
  - task: input
    config:
      platform: linux
      image: IMAGE
      inputs: [{name: out}]
      run: {path: sh, user: '65534', args: [-ec, 'echo more > out/there; cat out/there']}
"#))
        .await
        .succeeded();
    let lines: Vec<&str> = ran.stdout("unit").lines().collect();
    // The first 8 hexadecimal digits of the SHA-256 of "unit".
    assert_eq!(lines[0], "/tmp/build/385cfdbc", "{ran:#?}");
    assert_eq!(lines[1], "65534");
    assert!(lines[2].contains("65534"), "{lines:?}");
    let root: Vec<&str> = ran.stdout("root").lines().collect();
    assert_eq!(root[..2], ["0", "there"]);
    assert_eq!(ran.stdout("input"), "more");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_the_step_win_and_hold() {
    let bench = Bench::docker();
    let ran = bench
        .run(&job(r#"
  - task: limits
    container_limits: {memory: 64mb}
    config:
      platform: linux
      image: IMAGE
      container_limits: {memory: 1gb, cpu: 512}
      run: {path: sh, args: [-c, 'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null']}
"#))
        .await;
    let shown = ran
        .stdout("limits")
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned();
    assert_eq!(shown, (64 << 20).to_string(), "{ran:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn privileged_needs_the_operators_leave_and_is_real_then() {
    let yaml = job(r#"
  - task: root
    privileged: true
    config: {platform: linux, image: IMAGE, run: {path: sh, args: [-c, 'grep CapEff /proc/self/status']}}
"#);
    let ran = Bench::docker().run(&yaml).await;
    assert_eq!(ran.outcome, "errored");
    assert!(
        ran.message.contains("--allow-privileged"),
        "{}",
        ran.message
    );
    let ran = Bench::docker_of(true).run(&yaml).await;
    if ran.outcome == "succeeded" {
        let plain = yaml.replace("    privileged: true\n", "");
        let without = Bench::docker().run(&plain).await.succeeded();
        assert_ne!(ran.stdout("root"), without.stdout("root"));
    } else {
        // An engine inside a container cannot give what it has not itself: it was asked, though.
        assert!(ran.message.contains("caps"), "{}", ran.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_built_image_runs_later_tasks_with_its_own_program_and_user() {
    let tag = format!("pocketci-test/built-{:08x}:1", rand::random::<u32>());
    let yaml = job(r#"
  - task: make
    config:
      platform: linux
      image: IMAGE
      outputs: [{name: src}]
      run:
        path: sh
        args:
        - -ec
        - |
          mkdir src/app
          printf 'FROM IMAGE\nARG WHO\nENV WHO=$WHO\nUSER nobody\nENTRYPOINT ["/bin/echo", "entry"]\nCMD ["cmd"]\n' > src/app/Dockerfile
  - build_image: {name: built, context: src/app, tag: TAG, build_args: {WHO: "((who))"}}
  - task: default
    image: built
    config: {platform: linux}
  - task: args
    image: built
    config: {platform: linux, run: {args: [own]}}
  - task: path
    image: built
    config:
      platform: linux
      outputs: [{name: out}]
      run: {path: sh, args: [-ec, 'echo $WHO; id -un; touch out/x here']}
  - build_image: {context: src/app, tag: TAG-none, dockerfile: None}
"#)
    .replace("TAG", &tag);
    let server = Arc::new(Server::with_secrets([("who", "ann")]));
    let bench = Bench::docker();
    let agent = bench.workshop.config.name.clone();
    let ran = bench.run_at(&server, Wanted::of(&yaml)).await;
    assert_eq!(ran.steps[&2].kind, "build_image", "{ran:#?}");
    assert_eq!(ran.stdout("default"), "entry cmd", "{ran:#?}");
    assert_eq!(ran.stdout("args"), "entry own");
    assert_eq!(ran.stdout("path"), "ann\nnobody");
    assert_eq!(ran.outcome, "failed", "there is no such Dockerfile");
    // The engine's names are everybody's: the image had none of them, and is gone.
    let docker = docker();
    assert!(docker.inspect_image(&tag).await.is_err(), "{tag}");
    let options = bollard::query_parameters::ListImagesOptions {
        filters: Some(HashMap::from([(
            "reference".to_owned(),
            vec!["localhost/pocketci/built".to_owned()],
        )])),
        ..Default::default()
    };
    let left = docker.list_images(Some(options)).await.unwrap();
    let ours =
        |image: &&bollard::models::ImageSummary| image.labels.get("pocketci.agent") == Some(&agent);
    assert_eq!(left.iter().filter(ours).count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_without_an_image_or_a_program_says_so() {
    let bench = Bench::docker();
    for (config, message) in [
        ("{platform: linux, run: {path: sh}}", "names no image"),
        (
            "{platform: linux, image: IMAGE}",
            "no run.path, and its image no entrypoint",
        ),
        (
            "{platform: linux, rootfs_uri: file:///x, run: {path: sh}}",
            "rootfs_uri",
        ),
        (
            "{platform: linux, image: IMAGE, run: {path: /no/such}}",
            "/no/such",
        ),
        (
            "{platform: linux, image: IMAGE, run: {path: sh, user: nosuchuser}}",
            "nosuchuser",
        ),
    ] {
        let ran = bench
            .run(&job(&format!("  - task: t\n    config: {config}\n")))
            .await;
        assert_eq!(ran.outcome, "errored", "{config}: {ran:#?}");
        assert!(ran.message.contains(message), "{message}: {}", ran.message);
    }
}

fn docker() -> Docker {
    let host = docker_host();
    let socket = host.strip_prefix("unix://").unwrap();
    Docker::connect_with_unix(socket, 30, bollard::API_DEFAULT_VERSION).unwrap()
}

/// Containers and volumes of an agent, but for its caches.
async fn left(agent: &str) -> Vec<String> {
    let docker = docker();
    let label = HashMap::from([("label".to_owned(), vec![format!("pocketci.agent={agent}")])]);
    let options = ListContainersOptions {
        all: true,
        filters: Some(label.clone()),
        ..ListContainersOptions::default()
    };
    let containers = docker.list_containers(Some(options)).await.unwrap();
    let options = ListVolumesOptions {
        filters: Some(label),
    };
    let volumes = docker.list_volumes(Some(options)).await.unwrap();
    let volumes = volumes.volumes.unwrap_or_default().into_iter();
    let volumes = volumes.filter(|volume| !volume.labels.contains_key("pocketci.task-cache"));
    let containers = containers.into_iter().filter_map(|container| container.id);
    containers
        .chain(volumes.map(|volume| volume.name))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_job_but_its_caches_also_when_it_was_cancelled() {
    let bench = Bench::docker();
    let yaml = job(r#"
  - task: make
    config: {platform: linux, image: IMAGE, outputs: [{name: out}], caches: [{path: c}], run: {path: sh, args: [-c, 'touch c/x out/x']}}
  - in_parallel:
    - {task: one, config: {platform: linux, image: IMAGE, inputs: [{name: out}], run: {path: sh, args: [-c, 'echo begun; sleep SLEEP']}}}
    - {task: two, config: {platform: linux, image: IMAGE, inputs: [{name: out}], outputs: [{name: more}], run: {path: sh, args: [-c, 'echo begun; sleep SLEEP']}}}
"#);
    let agent = bench.workshop.config.name.clone();
    let quick = yaml.replace("SLEEP", "0");
    bench.run(&quick).await.succeeded();
    assert_eq!(left(&agent).await, Vec::<String>::new());
    let slow = yaml.replace("SLEEP", "600");
    let wanted = Wanted::of(&slow);
    let stop = wanted.stop.clone();
    let ran = bench
        .watched(&Arc::default(), wanted, |ran| {
            let begun = ran
                .steps
                .values()
                .filter(|step| step.stdout.contains("begun"));
            if begun.count() == 2 {
                stop.cancel();
            }
        })
        .await;
    assert_eq!(ran.outcome, "aborted", "{ran:#?}");
    assert_eq!(left(&agent).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_with_a_root_file_system_is_an_image() {
    let ran = Bench::docker()
        .run(&job(r#"
  - task: make
    config:
      platform: linux
      image: IMAGE
      outputs: [{name: image}]
      run:
        path: sh
        args:
        - -ec
        - |
          mkdir -p image/rootfs/bin image/rootfs/tmp image/rootfs/etc
          cp /bin/busybox image/rootfs/bin/busybox
          for applet in sh echo id cat; do ln -s busybox image/rootfs/bin/$applet; done
          echo 'me:x:1234:1234::/:/bin/sh' > image/rootfs/etc/passwd
          echo only-here > image/rootfs/etc/mark
          echo '{"env": ["FROM_ROOT=yes"], "user": "me"}' > image/metadata.json
  - task: inside
    image: image
    config:
      platform: linux
      image_resource: {type: registry-image, source: {repository: nowhere.test/none}}
      outputs: [{name: out}]
      run: {path: sh, args: [-ec, 'cat /etc/mark; echo $FROM_ROOT; id -u; echo x > out/x']}
  - task: no-image
    image: out
    config: {platform: linux, run: {path: sh}}
"#))
        .await;
    assert_eq!(ran.stdout("inside"), "only-here\nyes\n1234", "{ran:#?}");
    let told = &ran.step("inside").system;
    assert!(told.contains("wins over the one of its config"), "{told}");
    assert_eq!(ran.outcome, "errored");
    assert!(
        ran.message.contains("the artifact is no image"),
        "{}",
        ran.message
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_is_found_again_by_the_agents_next_process_and_not_by_another_agent() {
    let yaml = job(r#"
  - task: t
    config: {platform: linux, image: IMAGE, caches: [{path: c}], run: {path: sh, args: [-c, 'ls c | wc -l; touch c/$(ls c | wc -l)']}}
"#);
    let first = Bench::docker();
    let name = first.workshop.config.name.clone();
    assert_eq!(first.run(&yaml).await.succeeded().stdout("t"), "0");
    drop(first);
    let again = Bench::docker_named(name);
    assert_eq!(again.run(&yaml).await.succeeded().stdout("t"), "1");
    let other = Bench::docker();
    assert_eq!(other.run(&yaml).await.succeeded().stdout("t"), "0");
}
