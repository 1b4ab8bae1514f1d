//! What rules of versions begin with: a pipeline that declares resources, and builds that use and make versions.

use crate::story::*;
use pocketci_server::model::pipeline::Pipeline;
use pocketci_server::model::run::{BuildNumber, Outcome};
use pocketci_server::model::selection::{ChosenInput, InputConfig, Selection, Wish};
use pocketci_server::model::transition::Holder;
use pocketci_server::model::version::{ResourceScope, Version, VersionHash};
use pocketci_server::model::{JobId, PipelineId};
use pocketci_server::store::{NewBuild, NewRun, Saved, Taken};

/// The scope that resources have at first.
pub const SCOPE: ResourceScope = ResourceScope([1; 32]);
/// Another one.
pub const OTHER_SCOPE: ResourceScope = ResourceScope([2; 32]);

/// `{ref: word}`.
pub fn version(word: &str) -> Version {
    Version::from([("ref".to_owned(), word.to_owned())])
}

pub fn hash(word: &str) -> VersionHash {
    VersionHash::of(&version(word))
}

/// A pipeline with resources.
pub struct Yard {
    pub store: Shared,
    pub pipeline: Pipeline,
    pub peer: Peer,
}

/// An input without `passed` that wants the latest version.
pub fn input(name: &str) -> InputConfig {
    InputConfig {
        name: name.into(),
        resource: name.into(),
        passed: vec![],
        version: Wish::Latest,
    }
}

pub fn passed(name: &str, jobs: &[&str]) -> InputConfig {
    InputConfig {
        passed: jobs.iter().map(|job| job.to_string()).collect(),
        ..input(name)
    }
}

/// What a build takes by hand.
pub fn taken(name: &str, resource: &str, version: &Version, sources: Vec<JobId>) -> ChosenInput {
    ChosenInput {
        name: name.into(),
        resource: resource.into(),
        hash: VersionHash::of(version),
        version: version.clone(),
        first_occurrence: true,
        sources,
    }
}

impl Yard {
    pub async fn new(store: &Shared, resources: &[&str]) -> Self {
        Self::named(store, "yard", resources).await
    }

    pub async fn named(store: &Shared, name: &str, resources: &[&str]) -> Self {
        let yard = Self {
            store: store.clone(),
            pipeline: pipeline(store, name).await,
            peer: peer(store, name).await,
        };
        let all: Vec<_> = resources.iter().map(|name| (*name, SCOPE)).collect();
        yard.declare(&all).await;
        yard
    }

    pub fn id(&self) -> PipelineId {
        self.pipeline.id
    }

    pub async fn declare(&self, resources: &[(&str, ResourceScope)]) {
        let owned = |(name, scope): &(&str, ResourceScope)| (name.to_string(), *scope);
        let resources = resources.iter().map(owned).collect();
        let declared =
            self.store
                .declare_resources(self.id(), self.pipeline.revision_id, resources);
        assert!(declared.await.unwrap());
    }

    /// A check found these, oldest first; how many were new.
    pub async fn found(&self, resource: &str, words: &[&str]) -> usize {
        let versions = words.iter().map(|word| version(word)).collect();
        let saved = self
            .store
            .save_versions(self.id(), resource, SCOPE, versions);
        match saved.await.unwrap() {
            Saved::Stored { new } => new,
            Saved::Stale => panic!("{resource} is not declared"),
        }
    }

    /// The list of a resource, newest first.
    pub async fn list(&self, resource: &str) -> Vec<String> {
        let versions = self.store.versions(self.id(), resource, None, 1_000);
        let words = versions.await.unwrap().into_iter();
        words.map(|stored| stored.version["ref"].clone()).collect()
    }

    /// A build, as it is stored.
    pub fn new_build(&self, job_name: &str, rerun_of: Option<JobId>) -> NewRun {
        let mut run = webhook(&self.pipeline);
        run.jobs = vec![job(job_name)];
        run.jobs[0].build = Some(NewBuild { rerun_of });
        run
    }

    /// A build that the peer has accepted.
    pub async fn build(&self, job_name: &str) -> Attempt {
        self.begin(self.new_build(job_name, None)).await
    }

    pub async fn rerun(&self, job_name: &str, of: JobId) -> Attempt {
        self.begin(self.new_build(job_name, Some(of))).await
    }

    async fn begin(&self, mut run: NewRun) -> Attempt {
        run.jobs[0].hand_to = Some(self.peer.hand_off(LONG));
        let job = run.jobs[0].id;
        let mut attempt = Attempt {
            store: self.store.clone(),
            run: enqueue(&self.store, run).await,
            job,
            holder: Holder {
                attempt: 1,
                session_id: self.peer.session,
            },
            last_seq: 0,
        };
        attempt.accept(LONG).await;
        attempt
    }

    /// A build that used these versions (resource, word) and succeeded.
    pub async fn succeeded(
        &self,
        job_name: &str,
        used: &[(&str, &str)],
        sources: &[JobId],
    ) -> JobId {
        let mut build = self.build(job_name).await;
        let inputs = used
            .iter()
            .map(|(resource, word)| taken(resource, resource, &version(word), sources.to_vec()));
        self.take(build.job, inputs.collect()).await;
        build.finish(Outcome::Succeeded).await;
        build.job
    }

    pub async fn take(&self, job: JobId, inputs: Vec<ChosenInput>) {
        let taken = self.store.take_inputs(job, inputs).await.unwrap();
        assert_eq!(taken, Taken::Stored);
    }

    pub async fn put(&self, job: JobId, resource: &str, word: &str) -> Saved {
        let metadata = vec![("by".to_owned(), "put".to_owned())];
        let saving = self
            .store
            .save_output(job, resource, SCOPE, version(word), metadata);
        saving.await.unwrap()
    }

    pub async fn select(&self, job_name: &str, inputs: &[InputConfig]) -> Selection {
        let selecting = self
            .store
            .select_inputs(self.id(), job_name, inputs.to_vec());
        selecting.await.unwrap()
    }

    /// The number of the only build of a run.
    pub async fn number(&self, attempt: &Attempt) -> BuildNumber {
        let view = view(&self.store, attempt.run).await;
        view.jobs[0].0.build.expect("it is a build")
    }
}
