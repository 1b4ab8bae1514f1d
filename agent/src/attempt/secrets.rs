//! `secret:NAME` in a request becomes the secret, and the secret becomes `***` in everything the job prints.

use super::backend::Backend;
use crate::log::redact::Redactor;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// What begins a reference to a secret.
const PREFIX: &str = "secret:";
/// What may stand before a reference in a header.
const SCHEMES: [&str; 3] = ["Bearer ", "Basic ", "token "];

/// The secrets that a job has asked for.
pub(crate) struct Secrets {
    backend: Arc<dyn Backend>,
    redactor: Arc<Redactor>,
    known: Mutex<BTreeMap<String, String>>,
    /// Names resolved since [`Secrets::take_new`].
    new: Mutex<Vec<String>>,
}

impl Secrets {
    pub(crate) fn new(backend: Arc<dyn Backend>, redactor: Arc<Redactor>) -> Self {
        Self {
            backend,
            redactor,
            known: Mutex::default(),
            new: Mutex::default(),
        }
    }

    /// Names of secrets resolved since the last time.
    pub(super) fn take_new(&self) -> Vec<String> {
        std::mem::take(&mut self.new.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Resolves what an earlier attempt had resolved, so that none of it is printed; what is no more cannot be.
    pub(super) async fn recall(&self, names: Vec<String>) {
        if let Err(error) = self.values(names.into_iter().collect()).await {
            tracing::debug!(%error, "a secret of an earlier attempt is gone");
        }
        self.take_new();
    }

    /// Replaces references; an `Err` names those that do not exist, and nothing was replaced.
    pub(crate) async fn fill<'a>(
        &self,
        texts: impl IntoIterator<Item = &'a mut String>,
    ) -> Result<(), String> {
        let mut wanted: Vec<(&mut String, String)> = texts
            .into_iter()
            .filter_map(|text| reference(text).map(str::to_owned).map(|name| (text, name)))
            .collect();
        let names: BTreeSet<String> = wanted.iter().map(|(_, name)| name.clone()).collect();
        let values = self.values(names).await?;
        for (text, name) in &mut wanted {
            let Some(value) = values.get(name) else {
                continue;
            };
            let end = text.len() - PREFIX.len() - name.len();
            text.truncate(end);
            text.push_str(value);
        }
        Ok(())
    }

    /// The secret's value, if it exists.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<String>, String> {
        if let Some(known) = self.lock().get(name) {
            return Ok(Some(known.clone()));
        }
        let found = self.backend.secrets(vec![name.to_owned()]).await?;
        self.redactor.add_all(found.values().map(String::as_str));
        self.lock().extend(found.clone());
        Ok(found.get(name).cloned())
    }

    async fn values(&self, names: BTreeSet<String>) -> Result<BTreeMap<String, String>, String> {
        let mut values = self.lock().clone();
        let missing: Vec<String> = names
            .iter()
            .filter(|name| !values.contains_key(*name))
            .cloned()
            .collect();
        if missing.is_empty() {
            return Ok(values);
        }
        let found = self.backend.secrets(missing.clone()).await?;
        // Before anything can print them.
        self.redactor.add_all(found.values().map(String::as_str));
        self.new
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(found.keys().cloned());
        self.lock().extend(found.clone());
        values.extend(found);
        let unknown: Vec<&String> = missing
            .iter()
            .filter(|name| !values.contains_key(*name))
            .collect();
        if let Some(first) = unknown.first() {
            let all: Vec<&str> = unknown.iter().map(|name| name.as_str()).collect();
            return Err(format!(
                "secret {} is set neither for this pipeline nor for all; set it with: pocketci secrets set {first} --pipeline NAME",
                all.join(", ")
            ));
        }
        Ok(values)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The secret's name, if the text refers to one.
pub(crate) fn reference(text: &str) -> Option<&str> {
    let text = SCHEMES
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme))
        .unwrap_or(text);
    text.strip_prefix(PREFIX).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_texts_and_tokens_of_headers_are_references() {
        assert_eq!(reference("secret:A"), Some("A"));
        assert_eq!(reference("Bearer secret:A"), Some("A"));
        for none in ["secret:", "x secret:A", "Secret:A", "", "Bearer A"] {
            assert_eq!(reference(none), None, "{none}");
        }
    }
}
