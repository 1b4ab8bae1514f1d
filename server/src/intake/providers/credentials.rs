//! Headers whose value is a secret itself: blanked before anything is stored, shown or handed to a pipeline.

/// What stands in the place of such a value: that the line was there may matter, to those who read and to a replay.
pub const HIDDEN: &str = "***";

/// Their names, in lower case, whoever the sender is and whether it was verified: a receiving point may be bound to
/// another one tomorrow. (Secrets in a query are cut out of every address that is kept; a form's body is kept whole.)
const NAMES: &[&str] = &[
    "authorization",
    "cookie",
    "honeybadger-token",
    "proxy-authorization",
    "token",
    "uuid",
    "x-buildkite-token",
    "x-gitlab-token",
];

/// Whether a header's value is a secret; `name` in lower case, as `http` has it.
pub fn is_secret(name: &str) -> bool {
    NAMES.contains(&name)
}

/// What may be kept of a header's value.
pub fn kept(name: &str, value: &[u8]) -> Vec<u8> {
    match is_secret(name) && !value.is_empty() {
        true => HIDDEN.as_bytes().to_vec(),
        false => value.to_vec(),
    }
}
