//! What is wrong with a pipeline's file, and what is only odd about it.

use super::tree::Position;
use std::fmt;

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The part of the configuration it is about, as Concourse calls them: `jobs`, `resources`, `resource types`,
    /// `groups`, `variable sources`, `prototypes`, `display config`; `None` for the text itself and its types.
    pub group: Option<&'static str>,
    /// Where in the configuration: `jobs.build.plan.do[0].get(src)`; empty for the whole file.
    pub path: String,
    /// Where in the file, if known.
    pub at: Option<Position>,
    /// What is wrong, with the path where Concourse says it.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(at) = self.at {
            write!(f, " (line {}, column {})", at.line, at.column)?;
        }
        Ok(())
    }
}

/// Why something is odd; the words are Concourse's, but for `note`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WarningKind {
    /// A name that Concourse would rather not have.
    InvalidIdentifier,
    /// A key with a newer spelling.
    DeprecatedField,
    /// Something that does less than it seems to.
    Pipeline,
    /// A local var hides another.
    VarShadowed,
    /// Something Concourse does not warn about. No error, however strict one is.
    Note,
}

impl WarningKind {
    /// As printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidIdentifier => "invalid_identifier",
            Self::DeprecatedField => "deprecated_field",
            Self::Pipeline => "pipeline",
            Self::VarShadowed => "var_shadowed",
            Self::Note => "note",
        }
    }
}

/// One warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Why.
    pub kind: WarningKind,
    /// With the path in front.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.as_str(), self.message)
    }
}

/// Faults as Concourse prints them: those of a part of the configuration together, indented under its name.
pub fn report(file_name: &str, faults: &[Fault]) -> String {
    let mut out = String::new();
    let mut before = None;
    for fault in faults {
        match fault.group {
            None => {
                let at = fault.at.unwrap_or(Position { line: 1, column: 1 });
                out.push_str(&format!(
                    "{file_name}:{}:{}: {}\n",
                    at.line, at.column, fault.message
                ));
            }
            Some(group) => {
                if before != Some(group) {
                    out.push_str(&format!("invalid {group}:\n"));
                }
                out.push_str(&format!("\t{fault}\n"));
            }
        }
        before = fault.group;
    }
    out
}
