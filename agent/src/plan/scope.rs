//! What steps see of each other: artifacts and local vars.
//!
//! All steps of a job share one scope, but for iterations of `across`: each has its own, in which it sees what was there
//! before, and whose contents nobody else sees.

use crate::resource::Artifact;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module.
#[derive(Default)]
pub struct Scope {
    around: Option<Arc<Scope>>,
    own: Mutex<Own>,
}

#[derive(Default)]
struct Own {
    artifacts: BTreeMap<String, Artifact>,
    vars: BTreeMap<String, Value>,
}

impl Scope {
    /// For an iteration within this one.
    pub fn within(self: &Arc<Self>) -> Arc<Self> {
        Arc::new(Self {
            around: Some(self.clone()),
            own: Mutex::default(),
        })
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here outwards.
    fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |scope| scope.around.as_deref())
    }

    /// Makes an artifact known; an earlier one of its name is forgotten.
    pub fn register(&self, name: &str, artifact: Artifact) {
        self.own().artifacts.insert(name.to_owned(), artifact);
    }

    /// The artifact of this name.
    pub fn artifact(&self, name: &str) -> Option<Artifact> {
        self.chain()
            .find_map(|scope| scope.own().artifacts.get(name).cloned())
    }

    /// All that is seen from here, by name.
    pub fn artifacts(&self) -> BTreeMap<String, Artifact> {
        let mut all = BTreeMap::new();
        for scope in self.chain() {
            for (name, artifact) in &scope.own().artifacts {
                all.entry(name.clone()).or_insert_with(|| artifact.clone());
            }
        }
        all
    }

    /// Sets `((.:name))`.
    pub fn set_var(&self, name: &str, value: Value) {
        self.own().vars.insert(name.to_owned(), value);
    }

    /// The value of `((.:name))`.
    pub fn var(&self, name: &str) -> Option<Value> {
        self.chain()
            .find_map(|scope| scope.own().vars.get(name).cloned())
    }

    /// All local vars that are seen from here.
    pub fn vars(&self) -> serde_json::Map<String, Value> {
        let mut all = serde_json::Map::new();
        for scope in self.chain() {
            for (name, value) in &scope.own().vars {
                all.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::Volume;

    fn artifact(id: &str) -> Artifact {
        Artifact {
            volume: Volume {
                id: id.to_owned(),
                path: String::new(),
            },
            image: None,
        }
    }

    #[test]
    fn an_iteration_sees_what_was_there_and_keeps_its_own() {
        let job = Arc::new(Scope::default());
        job.register("a", artifact("old"));
        job.register("a", artifact("a"));
        job.set_var("v", 1.into());
        let (one, two) = (job.within(), job.within());
        one.register("a", artifact("one"));
        one.register("b", artifact("b"));
        one.set_var("v", 2.into());
        let id = |scope: &Scope, name: &str| scope.artifact(name).map(|found| found.volume.id);
        assert_eq!(id(&one, "a").as_deref(), Some("one"));
        assert_eq!(id(&two, "a").as_deref(), Some("a"));
        assert_eq!((id(&two, "b"), id(&job, "b")), (None, None));
        assert_eq!(
            (one.var("v"), two.var("v")),
            (Some(2.into()), Some(1.into()))
        );
        assert_eq!(one.artifacts()["a"].volume.id, "one");
        assert_eq!((one.artifacts().len(), job.artifacts().len()), (2, 1));
    }
}
