//! What a job of a YAML pipeline is told beside its program when it is handed out.

use super::one_off::OneOff;
use super::version::Version;
use std::collections::BTreeMap;

/// See the module. Values of params may be secret: no Debug.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Assignment {
    /// The versions it uses: name of the input, resource, version.
    pub inputs: Vec<(String, String, Version)>,
    /// Its number, empty for a check.
    pub number: String,
    /// `triggers.webhook.params`, evaluated.
    pub params: BTreeMap<String, String>,
    /// Environment of gets and puts.
    pub env: BTreeMap<String, String>,
    /// The resource to look at, with the version to begin with, instead of a plan.
    pub check: Option<(String, Option<Version>)>,
    /// The task to execute instead of a plan.
    pub one_off: Option<OneOff>,
}
