//! Where values of vars come from.

use super::{Reference, VarError};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Something that knows vars.
pub trait Lookup {
    /// The value, or `None` if this place does not know the var.
    ///
    /// # Errors
    /// The var is known but has no such field, its source is unknown, or the place does not answer.
    fn get(&self, reference: &Reference) -> Result<Option<Value>, VarError>;
}

/// Vars given by name, such as flags and files. `Debug` shows their names only: values may be secrets.
#[derive(Clone, Default, PartialEq)]
pub struct Vars {
    known: Map<String, Value>,
}

impl std::fmt::Debug for Vars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.known.keys()).finish()
    }
}

impl Vars {
    /// No vars.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Sets a var. A name with fields (`a.b`) sets a field of it and leaves the others.
    ///
    /// # Errors
    /// The name is none.
    pub fn set(&mut self, name: &str, value: Value) -> Result<(), VarError> {
        let reference = Reference::parse(name)?;
        let mut place = self.known.entry(reference.path).or_insert(Value::Null);
        for field in reference.fields {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            let Value::Object(map) = place else {
                return Ok(());
            };
            place = map.entry(field).or_insert(Value::Null);
        }
        *place = value;
        Ok(())
    }

    /// Adds vars under those that are there: what is known stays.
    pub fn add_below(&mut self, more: Map<String, Value>) {
        for (name, value) in more {
            self.known.entry(name).or_insert(value);
        }
    }
}

impl From<Map<String, Value>> for Vars {
    fn from(known: Map<String, Value>) -> Self {
        Self { known }
    }
}

impl Lookup for Vars {
    fn get(&self, reference: &Reference) -> Result<Option<Value>, VarError> {
        if !reference.source.is_empty() {
            return Ok(None);
        }
        let Some(value) = self.known.get(&reference.path) else {
            return Ok(None);
        };
        traverse(value, reference).map(Some)
    }
}

/// Local vars: `((.:name))`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Local {
    vars: Vars,
}

impl Local {
    /// These.
    pub fn of(vars: Vars) -> Self {
        Self { vars }
    }
}

impl Lookup for Local {
    fn get(&self, reference: &Reference) -> Result<Option<Value>, VarError> {
        if reference.source != "." {
            return Ok(None);
        }
        let Some(value) = self.vars.known.get(&reference.path) else {
            return Ok(None);
        };
        traverse(value, reference).map(Some)
    }
}

/// Named sources: `((source:path))`. Once there is one, an unknown one is an error; the local `.` is none of them.
#[derive(Default)]
pub struct NamedVars<'a> {
    /// By name.
    pub sources: BTreeMap<String, Box<dyn Lookup + 'a>>,
}

impl Lookup for NamedVars<'_> {
    fn get(&self, reference: &Reference) -> Result<Option<Value>, VarError> {
        if self.sources.is_empty() || reference.source.is_empty() || reference.source == "." {
            return Ok(None);
        }
        let Some(source) = self.sources.get(&reference.source) else {
            return Err(VarError::MissingSource {
                name: reference.to_string(),
                source_name: reference.source.clone(),
            });
        };
        source.get(&Reference {
            source: String::new(),
            ..reference.clone()
        })
    }
}

/// Places asked one after the other; the first that knows the var wins.
pub struct Chain<'a>(pub Vec<&'a dyn Lookup>);

impl Lookup for Chain<'_> {
    fn get(&self, reference: &Reference) -> Result<Option<Value>, VarError> {
        for place in &self.0 {
            if let Some(value) = place.get(reference)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}

fn traverse(value: &Value, reference: &Reference) -> Result<Value, VarError> {
    let mut value = value;
    for field in &reference.fields {
        value = match value {
            Value::Object(map) => map.get(field).ok_or_else(|| VarError::MissingField {
                name: reference.to_string(),
                field: field.clone(),
            })?,
            other => {
                return Err(VarError::NoMap {
                    name: reference.to_string(),
                    field: field.clone(),
                    kind: super::interpolate::go_kind(other),
                });
            }
        };
    }
    Ok(value.clone())
}
