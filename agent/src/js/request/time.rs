//! Durations as authors write them.

use crate::js::globals::units;
use serde::Deserialize;
use std::fmt;
use std::time::Duration;

/// A duration: Go's text (`90s`) or milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Time;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"90s\", \"1h30m\" or a number of milliseconds")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Time, E> {
                let read = units::duration(text).map(Time);
                read.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
            fn visit_f64<E: serde::de::Error>(self, ms: f64) -> Result<Time, E> {
                let read = units::duration_ms(ms).map(Time);
                read.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Float(ms), &self))
            }
            fn visit_u64<E: serde::de::Error>(self, ms: u64) -> Result<Time, E> {
                self.visit_f64(ms as f64)
            }
            fn visit_i64<E: serde::de::Error>(self, ms: i64) -> Result<Time, E> {
                self.visit_f64(ms as f64)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
