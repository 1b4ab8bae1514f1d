//! Headers whose value is a secret itself: not for receipts and logs, once the message is verified with them.

use super::{ProviderKind, token};

/// Names of such headers, in lower case. (Secrets in a query are cut out of every address that is kept; a form's body is
/// kept whole.)
pub fn headers(kind: ProviderKind) -> &'static [&'static str] {
    match kind {
        ProviderKind::GitLab => &["x-gitlab-token"],
        ProviderKind::Honeybadger => &["honeybadger-token"],
        ProviderKind::Buildkite => &["x-buildkite-token"],
        ProviderKind::Token => token::NAMES,
        _ => &[],
    }
}
