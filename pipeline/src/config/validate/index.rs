//! Names looked up fast, and globs matched once each: a pipeline may have thousands of jobs, and a hostile one more.

use crate::config::glob::{Glob, InvalidGlob};
use crate::config::model::Config;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

/// Most comparisons of a glob with a job's name in one pipeline: a thousand jobs with two thousand different globs.
const MAX_MATCHES: usize = 2_000_000;

/// A pipeline's names.
pub struct Index<'a> {
    config: &'a Config,
    resources: HashSet<&'a str>,
    jobs: HashSet<&'a str>,
    /// What each job gets or puts.
    uses: HashMap<&'a str, BTreeSet<&'a str>>,
    known: RefCell<HashMap<String, Rc<[&'a str]>>>,
    left: Cell<usize>,
}

impl<'a> Index<'a> {
    pub fn of(config: &'a Config) -> Self {
        let mut uses: HashMap<&str, BTreeSet<&str>> = HashMap::new();
        for job in &config.jobs {
            uses.entry(&job.name).or_default().extend(job.resources());
        }
        Self {
            config,
            resources: config.resources.iter().map(|r| r.name.as_str()).collect(),
            jobs: config.jobs.iter().map(|job| job.name.as_str()).collect(),
            uses,
            known: RefCell::default(),
            left: Cell::new(MAX_MATCHES),
        }
    }

    pub fn has_resource(&self, name: &str) -> bool {
        self.resources.contains(name)
    }

    pub fn has_job(&self, name: &str) -> bool {
        self.jobs.contains(name)
    }

    /// Whether a job gets or puts a resource.
    pub fn uses(&self, job: &str, resource: &str) -> bool {
        self.uses.get(job).is_some_and(|all| all.contains(resource))
    }

    /// What any job gets or puts.
    pub fn used(&self) -> HashSet<&'a str> {
        self.uses.values().flatten().copied().collect()
    }

    /// Whether there were too many globs to match them all.
    pub fn is_exhausted(&self) -> bool {
        self.left.get() == 0
    }

    /// The jobs that a glob matches, in the order of the file.
    pub fn matching(&self, text: &str) -> Result<Rc<[&'a str]>, InvalidGlob> {
        if let Some(found) = self.known.borrow().get(text) {
            return Ok(Rc::clone(found));
        }
        let glob = Glob::compile(text)?;
        let found: Rc<[&str]> = match glob.literal() {
            Some(name) => self.jobs.get(name.as_str()).copied().into_iter().collect(),
            None => match self.left.get().checked_sub(self.config.jobs.len()) {
                Some(left) if left > 0 => {
                    self.left.set(left);
                    let names = self.config.jobs.iter().map(|job| job.name.as_str());
                    names.filter(|name| glob.matches(name)).collect()
                }
                _ => {
                    self.left.set(0);
                    Rc::from([])
                }
            },
        };
        self.known
            .borrow_mut()
            .insert(text.to_owned(), Rc::clone(&found));
        Ok(found)
    }
}
