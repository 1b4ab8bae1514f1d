//! Why no version fits an input, in words that name what is missing.

use crate::model::version::{Version, words};
use std::fmt;

/// Why there is no version for an input. Displayed in Concourse's words; [`Reason::explain`] says more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The resource has no version that is enabled.
    NoVersion {
        /// Which resource.
        resource: String,
        /// The input wants every version.
        every: bool,
    },
    /// No version contains what is pinned.
    PinNotFound {
        /// Of which resource.
        resource: String,
        /// The pinned fields.
        pin: Version,
    },
    /// No set of builds of the passed jobs fits the inputs that depend on each other.
    NotPassed {
        /// Of which resource.
        resource: String,
        /// What stands in the way of this input.
        blocked: Blocked,
    },
}

/// What keeps an input with passed jobs from a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocked {
    /// A passed job has never succeeded.
    NoBuild {
        /// Which job.
        job: String,
    },
    /// A passed job has succeeded, but never with a version of the resource that may be used.
    NotUsed {
        /// Which job.
        job: String,
    },
    /// The newest version that passed some of the jobs (or the pinned one) has not passed others.
    NotYet {
        /// Which version.
        version: Version,
        /// Jobs that it passed.
        passed: Vec<String>,
        /// Jobs that it has not passed.
        missing: Vec<String>,
    },
    /// There are versions for this input alone, but none that passed together with those of the other inputs.
    Apart {
        /// The other inputs.
        others: Vec<String>,
    },
    /// The search was given up: too many combinations.
    TooMany,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVersion { every: false, .. } => {
                f.write_str("latest version of resource not found")
            }
            Self::NoVersion { every: true, .. } => f.write_str("version of resource not found"),
            Self::PinNotFound { pin, .. } => {
                let fields: Vec<String> = pin.iter().map(|(k, v)| format!("{k}:{v}")).collect();
                write!(f, "pinned version {} not found", fields.join(","))
            }
            Self::NotPassed { .. } => {
                f.write_str("no satisfiable builds from passed jobs found for set of inputs")
            }
        }
    }
}

impl Reason {
    /// A sentence for people that names the input, the resource, the passed job and the missing version.
    pub fn explain(&self, input: &str) -> String {
        match self {
            Self::NoVersion { resource, .. } => {
                format!("input {input}: {resource} has no version that may be used")
            }
            Self::PinNotFound { resource, pin } => {
                format!(
                    "input {input}: no version of {resource} has {{{}}}, which is pinned",
                    words(pin)
                )
            }
            Self::NotPassed { resource, blocked } => blocked.explain(input, resource),
        }
    }
}

impl Blocked {
    fn explain(&self, input: &str, resource: &str) -> String {
        match self {
            Self::NoBuild { job } => format!("input {input}: job {job} has not succeeded yet"),
            Self::NotUsed { job } => format!(
                "input {input}: no successful build of {job} has used a version of {resource} that may be used"
            ),
            Self::NotYet {
                version,
                passed,
                missing,
            } => {
                let version = words(version);
                let missing = missing.join(", ");
                match passed.is_empty() {
                    true => format!(
                        "input {input}: version {{{version}}} of {resource} has not passed {missing}"
                    ),
                    false => format!(
                        "input {input}: version {{{version}}} of {resource} has passed {} but not {missing}",
                        passed.join(", ")
                    ),
                }
            }
            Self::Apart { others } => format!(
                "input {input}: no version of {resource} has passed together with those of {}",
                others.join(", ")
            ),
            Self::TooMany => {
                format!("input {input}: too many combinations of builds; the search was given up")
            }
        }
    }
}
