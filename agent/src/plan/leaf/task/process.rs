//! One run of a task's program, and what its end means.

use super::super::super::build::Build;
use super::super::{Ended, Running, within};
use super::Task;
use super::mounts::{Mounts, labels};
use crate::container::{ImageConfig, Mount, Owner, StepExit, StepSpec};
use pocketci_pipeline::config::model::TaskConfig;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Where tasks' directories are in their containers.
const PLACE: &str = "/tmp/build";
/// Bytes of the hash in a task's directory.
const HASH_BYTES: usize = 4;
/// Goes to a directory first, where the driver cannot.
const IN_DIRECTORY: &str = "cd -- \"$0\" && exec \"$@\"";

/// A program ready to run.
pub(super) struct Process<'a> {
    task: &'a Task<'a>,
    config: &'a TaskConfig,
    image: String,
    owner: Option<Owner>,
    command: Vec<String>,
    /// Absolute in a container, empty where there is none.
    work_dir: String,
}

impl<'a> Process<'a> {
    /// Looks the image up (and pulls it) for what it says of users and programs.
    pub(super) async fn new(
        build: &Build,
        task: &'a Task<'a>,
        config: &'a TaskConfig,
        image: String,
    ) -> Result<Self, Ended> {
        let run = config.run.clone().unwrap_or_default();
        let mut owner = None;
        let mut of_image = ImageConfig::default();
        let mut work_dir = String::new();
        if let Some(engine) = build.driver.engine() {
            let looking = async {
                let found = engine.image_config(&image, None).await?;
                let user = if run.user.is_empty() {
                    &found.user
                } else {
                    &run.user
                };
                let owner = match user.as_str() {
                    "" | "root" | "0" | "0:0" => None,
                    user => engine.image_owner(&image, user, &build.labels).await?,
                };
                Ok((found, owner))
            };
            let looked = build.unless_stopped(task.state, looking).await?;
            (of_image, owner) = looked.map_err(|error| Ended::of_driver("image", &error))?;
            let hash = Sha256::digest(task.name.as_bytes());
            work_dir = format!("{PLACE}/{}", hex::encode(&hash[..HASH_BYTES]));
        }
        Ok(Self {
            task,
            config,
            image,
            owner,
            command: command(&run.path, run.args, of_image)?,
            work_dir,
        })
    }

    /// Who writes its files; `None` is root, or whoever the agent is.
    pub(super) fn owner(&self) -> Option<Owner> {
        self.owner
    }

    /// Runs it; its exit code.
    pub(super) async fn run(&self, mounts: &Mounts, running: &Running) -> Result<i32, Ended> {
        let build = self.task.build;
        let spec = self.spec(mounts, running);
        let exit = within(self.task.state, self.task.step.timeout.as_deref(), |stop| {
            let output = running.output();
            async move {
                match build.driver.run(spec, output, stop).await {
                    Ok(StepExit::Stopped) => Err(Ended::Stopped),
                    Ok(StepExit::Exited { code, oom }) => Ok((code, oom)),
                    Err(error) => Err(Ended::Errored(crate::attempt::told(&error))),
                }
            }
        })
        .await;
        let (code, oom) = exit?;
        if oom {
            let said = "the process was killed because it used more memory than its limit (container_limits.memory)";
            running.say(said).await;
        }
        Ok(code)
    }

    fn spec(&self, mounts: &Mounts, running: &Running) -> StepSpec {
        let (task, config) = (self.task, self.config);
        let run = config.run.clone().unwrap_or_default();
        let limits = config.container_limits.clone().unwrap_or_default();
        let labels = labels(task.build, running);
        let mut spec = StepSpec {
            name: task.name.to_owned(),
            image: self.image.clone(),
            user: run.user,
            env: self.env(),
            cpu_shares: limits.cpu.unwrap_or_default(),
            memory_bytes: limits.memory.unwrap_or_default(),
            privileged: task.step.privileged,
            no_network: task.step.hermetic,
            no_copy: true,
            groups: task.build.attempt.groups(),
            remains: running.remains(),
            labels,
            ..StepSpec::default()
        };
        if self.work_dir.is_empty() {
            self.on_this_machine(mounts, &run.dir, &mut spec);
        } else {
            self.in_container(mounts, &run.dir, &mut spec);
        }
        spec
    }

    fn in_container(&self, mounts: &Mounts, dir: &str, spec: &mut StepSpec) {
        let absolute = |path: &str| match path {
            "" | "." => self.work_dir.clone(),
            path if path.starts_with('/') => path.to_owned(),
            path => format!("{}/{path}", self.work_dir),
        };
        spec.work_dir = absolute(dir);
        let volumes = mounts.volumes.iter();
        let mounts = volumes.map(|(place, volume)| Mount {
            path: absolute(place),
            volume: volume.id.clone(),
        });
        spec.mounts = mounts.collect();
        let mut command = self.command.iter().cloned();
        spec.path = command.next().unwrap_or_default();
        spec.args = command.collect();
    }

    /// The same relative paths below a directory of the step's own.
    fn on_this_machine(&self, mounts: &Mounts, dir: &str, spec: &mut StepSpec) {
        for (place, volume) in &mounts.volumes {
            if place == "." {
                spec.work_dir.clone_from(&volume.id);
                continue;
            }
            spec.mounts.push(Mount {
                path: place.clone(),
                volume: volume.id.clone(),
            });
        }
        // What others are mounted in comes first.
        let depth = |mount: &Mount| mount.path.matches('/').count();
        spec.mounts.sort_by_key(depth);
        let mut command = self.command.clone();
        if !dir.is_empty() {
            let first = ["/bin/sh", "-c", IN_DIRECTORY, dir].map(str::to_owned);
            command = first.into_iter().chain(command).collect();
        }
        let mut command = command.into_iter();
        spec.path = command.next().unwrap_or_default();
        spec.args = command.collect();
    }

    fn env(&self) -> BTreeMap<String, String> {
        let yaml = &self.task.build.about.yaml;
        let mut env: BTreeMap<String, String> = yaml.params.clone().into_iter().collect();
        env.extend(self.config.params.clone());
        if let Some(url) = yaml.build_env.get("ATC_EXTERNAL_URL") {
            env.insert("ATC_EXTERNAL_URL".to_owned(), url.clone());
        }
        if let Some(copied) = self.task.copied {
            env.insert("CI_TASK_INDEX".to_owned(), copied.index.to_string());
            env.insert("CI_TASK_COUNT".to_owned(), copied.count.to_string());
        }
        env
    }

    /// Whether the task succeeded.
    pub(super) async fn judge(&self, code: i32, running: &mut Running) -> Result<(), Ended> {
        if let Some(assert) = &self.task.step.assert {
            let (stdout, stderr) = running.printed().await;
            let wrong = match assert.code {
                Some(wanted) if wanted != code => {
                    Some(format!("expected exit code {wanted}, got {code}"))
                }
                _ if !stdout.contains(&assert.stdout) => {
                    Some(format!("stdout does not contain {:?}", assert.stdout))
                }
                _ if !stderr.contains(&assert.stderr) => {
                    Some(format!("stderr does not contain {:?}", assert.stderr))
                }
                _ => None,
            };
            if let Some(wrong) = wrong {
                return Err(Ended::Failed {
                    exit_code: code,
                    said: format!("assertion failed: {wrong}"),
                });
            }
        }
        match code {
            0 => Ok(()),
            exit_code => Err(Ended::Failed {
                exit_code,
                said: format!("exit code {exit_code}"),
            }),
        }
    }
}

/// The program with its arguments: the task's own, or the image's with the task's arguments.
fn command(path: &str, args: Vec<String>, image: ImageConfig) -> Result<Vec<String>, Ended> {
    let mut command = match path {
        "" => image.entrypoint,
        path => vec![path.to_owned()],
    };
    if path.is_empty() && args.is_empty() {
        command.extend(image.cmd);
    } else {
        command.extend(args);
    }
    if command.is_empty() || (path.is_empty() && command[0].is_empty()) {
        return Err(Ended::Errored(
            "the task has no run.path, and its image no entrypoint".to_owned(),
        ));
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_path_the_images_program_runs_with_the_tasks_arguments() {
        let image = || ImageConfig {
            entrypoint: vec!["/entry".to_owned(), "-x".to_owned()],
            cmd: vec!["cmd".to_owned()],
            ..ImageConfig::default()
        };
        let args = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            command("sh", args(&["-c"]), image()),
            Ok(args(&["sh", "-c"]))
        );
        assert_eq!(
            command("", args(&[]), image()),
            Ok(args(&["/entry", "-x", "cmd"]))
        );
        assert_eq!(
            command("", args(&["y"]), image()),
            Ok(args(&["/entry", "-x", "y"]))
        );
        assert!(command("", Vec::new(), ImageConfig::default()).is_err());
    }
}
