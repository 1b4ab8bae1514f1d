//! The successful builds of one passed job, fetched newest first and only as far as the search needs.

use super::history::{Build, History, Position};
use crate::model::version::VersionHash;
use std::collections::HashMap;
use std::rc::Rc;

/// Builds of the first page; each further one has twice as many.
const FIRST_PAGE: usize = 32;
/// Builds of the largest page.
const LARGEST_PAGE: usize = 1024;
/// Looks for one build by its versions, beyond what is loaded, before whole pages are fetched: a few save the pages, many
/// would cost more than them.
const MAX_LOOKUPS: u32 = 8;

/// A version of a resource.
pub(super) type Wanted = (usize, VersionHash);

/// See the module.
pub(super) struct Builds {
    pub(super) job: String,
    loaded: Vec<Rc<Build>>,
    /// Where in `loaded` each version occurs, in order.
    places: HashMap<Wanted, Vec<usize>>,
    /// What was asked for by [`Builds::has`] and is not in `loaded`.
    known: HashMap<Wanted, bool>,
    complete: bool,
    page: usize,
    lookups: u32,
}

/// A walk over builds, newest first.
#[derive(Default)]
pub(super) struct Walk {
    /// Only builds that made or used all of these.
    wanted: Vec<Wanted>,
    /// The next place to look at: in `loaded`, or in the list of the first wanted version.
    at: usize,
    /// Only builds before this one.
    before: Option<Position>,
    over: bool,
}

impl Walk {
    pub(super) fn over_all() -> Self {
        Self::default()
    }

    pub(super) fn with(wanted: Vec<Wanted>) -> Self {
        Self {
            wanted,
            ..Self::default()
        }
    }
}

impl Builds {
    pub(super) fn of(job: &str) -> Self {
        Self {
            job: job.to_owned(),
            loaded: Vec::new(),
            places: HashMap::new(),
            known: HashMap::new(),
            complete: false,
            page: FIRST_PAGE,
            lookups: 0,
        }
    }

    /// Fetches the next page.
    fn load<H: History>(&mut self, history: &mut H) -> Result<(), H::Error> {
        let before = self.loaded.last().map(|build| build.position);
        let page = history.builds(&self.job, before, self.page)?;
        self.complete = page.len() < self.page;
        self.page = (self.page * 2).min(LARGEST_PAGE);
        for build in page {
            let place = self.loaded.len();
            for used in &build.versions {
                let places = self.places.entry((used.resource, used.hash)).or_default();
                if places.last() != Some(&place) {
                    places.push(place);
                }
            }
            self.loaded.push(Rc::new(build));
        }
        Ok(())
    }

    /// The build at a place, from the newest, 0.
    fn at<H: History>(
        &mut self,
        history: &mut H,
        place: usize,
    ) -> Result<Option<Rc<Build>>, H::Error> {
        while place >= self.loaded.len() && !self.complete {
            self.load(history)?;
        }
        Ok(self.loaded.get(place).cloned())
    }

    /// The builds newer than a position, oldest first.
    pub(super) fn newer<H: History>(
        &mut self,
        history: &mut H,
        than: Position,
    ) -> Result<Vec<Rc<Build>>, H::Error> {
        let mut newer = Vec::new();
        let mut place = 0;
        while let Some(build) = self.at(history, place)? {
            if build.position.number < than.number {
                break;
            }
            if build.position.is_newer_than(than) {
                newer.push(build);
            }
            place += 1;
        }
        newer.reverse();
        Ok(newer)
    }

    /// Whether any build made or used this.
    pub(super) fn has<H: History>(
        &mut self,
        history: &mut H,
        wanted: Wanted,
    ) -> Result<bool, H::Error> {
        if self.places.contains_key(&wanted) {
            return Ok(true);
        }
        if let Some(has) = self.known.get(&wanted) {
            return Ok(*has);
        }
        let has = self.step(history, &mut Walk::with(vec![wanted]))?.is_some();
        self.known.insert(wanted, has);
        Ok(has)
    }

    /// The next build of a walk.
    pub(super) fn step<H: History>(
        &mut self,
        history: &mut H,
        walk: &mut Walk,
    ) -> Result<Option<Rc<Build>>, H::Error> {
        if walk.wanted.is_empty() {
            let build = self.at(history, walk.at)?;
            walk.at += 1;
            return Ok(build);
        }
        if self.loaded.is_empty() && !self.complete {
            self.load(history)?;
        }
        while !walk.over {
            if let Some(build) = self.step_loaded(walk) {
                return Ok(Some(build));
            }
            if self.complete {
                walk.over = true;
            } else if self.lookups < MAX_LOOKUPS {
                return self.look_up(history, walk);
            } else {
                self.load(history)?;
            }
        }
        Ok(None)
    }

    fn step_loaded(&self, walk: &mut Walk) -> Option<Rc<Build>> {
        let (first, others) = walk.wanted.split_first()?;
        let places = self.places.get(first)?;
        while let Some(place) = places.get(walk.at) {
            walk.at += 1;
            let build = self.loaded.get(*place)?;
            let is_next = walk.before.is_none_or(|before| build.position < before);
            if is_next && others.iter().all(|other| has(build, other)) {
                return Some(build.clone());
            }
        }
        None
    }

    /// The next build of a walk that has passed everything that is loaded.
    fn look_up<H: History>(
        &mut self,
        history: &mut H,
        walk: &mut Walk,
    ) -> Result<Option<Rc<Build>>, H::Error> {
        self.lookups += 1;
        let loaded = self.loaded.last().map(|build| build.position);
        let before = match (walk.before, loaded) {
            (Some(walked), Some(loaded)) => Some(walked.min(loaded)),
            (walked, loaded) => walked.or(loaded),
        };
        let build = history.build_with(&self.job, &walk.wanted, before)?;
        walk.before = build.as_ref().map(|build| build.position);
        walk.over = build.is_none();
        Ok(build.map(Rc::new))
    }
}

fn has(build: &Build, wanted: &Wanted) -> bool {
    let mut versions = build.versions.iter();
    versions.any(|used| (used.resource, used.hash) == *wanted)
}
