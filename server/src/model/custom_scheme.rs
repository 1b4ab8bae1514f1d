//! A signature scheme in data, for senders that have no file of their own.

use serde::{Deserialize, Serialize};

/// Longest name of a header, prefix or template, in bytes.
const MAX_TEXT_BYTES: usize = 256;

/// Widest window of a timestamp, in seconds: a day.
const MAX_TOLERANCE_SECONDS: u32 = 86_400;

/// What makes the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// HMAC with SHA-256.
    #[default]
    Sha256,
    /// HMAC with SHA-512.
    Sha512,
    /// Ed25519; the secret is the public key.
    Ed25519,
}

/// How bytes are written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Hexadecimal digits of either case.
    #[default]
    Hex,
    /// Base64 with the standard alphabet and padding.
    Base64,
}

/// How a secret becomes a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyEncoding {
    /// Its bytes are the key; for Ed25519 they must be 32.
    #[default]
    Raw,
    /// Hexadecimal digits.
    Hex,
    /// Base64 with the standard alphabet and padding.
    Base64,
}

/// A scheme: where the signature is, over what, and with which arithmetic.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CustomScheme {
    /// The header with the signature.
    pub header: String,
    /// What each signature begins with, e.g. `sha256=` or `v1=`; entries without it are skipped.
    pub prefix: String,
    /// What separates several entries of the header, e.g. `,` or a space; empty if there is one.
    pub separator: String,
    /// The arithmetic.
    pub algorithm: Algorithm,
    /// How the signature is written.
    pub encoding: Encoding,
    /// How the secret is written.
    pub key: KeyEncoding,
    /// What the secret begins with that is not part of the key, e.g. `whsec_`.
    pub key_prefix: String,
    /// What is signed: text with `{id}`, `{ts}`, `{body}`, `{method}` and `{path}` (the path with its query, as
    /// received); `{body}` must be there, once.
    pub template: String,
    /// The header with `{id}`; it is the delivery's id too.
    pub id_header: String,
    /// The header with `{ts}`, in seconds since 1970.
    pub timestamp_header: String,
    /// What the entry of [`Self::header`] begins with that holds `{ts}` instead, e.g. `t=`.
    pub timestamp_prefix: String,
    /// How far `{ts}` may be from now, either way, in seconds.
    pub tolerance_seconds: Option<u32>,
    /// The header with the event's type.
    pub event_header: String,
}

/// Why a scheme cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemeError {
    /// No header.
    #[error("`header` is missing: name the header that holds the signature")]
    NoHeader,
    /// Not a header's name.
    #[error(
        "`{field}` is no name of a header: letters, digits and hyphens are expected, found {found:?}"
    )]
    HeaderName {
        /// Which field.
        field: &'static str,
        /// Its value.
        found: String,
    },
    /// Too long.
    #[error("`{field}` is longer than {MAX_TEXT_BYTES} bytes")]
    TooLong {
        /// Which field.
        field: &'static str,
    },
    /// The template.
    #[error("`template`: {0}")]
    Template(TemplateError),
    /// `{id}` without its source.
    #[error("`template` has {{id}}, so `id_header` must name the header that holds it")]
    NoId,
    /// `{ts}` without its source, or with two.
    #[error(
        "`template` has {{ts}}, so exactly one of `timestamp_header` and `timestamp_prefix` must say where it is"
    )]
    NoTimestamp,
    /// A timestamp that nobody signed.
    #[error(
        "a timestamp is checked only if it is signed: put {{ts}} into `template`, or leave `timestamp_header`, `timestamp_prefix` and `tolerance_seconds` out"
    )]
    UnsignedTimestamp,
    /// A signed timestamp that nobody checks.
    #[error(
        "`template` has {{ts}}, so `tolerance_seconds` must say how far it may be from now: 1 to {MAX_TOLERANCE_SECONDS}, e.g. 300"
    )]
    Tolerance,
    /// A signature in base64 may contain it, or several entries are needed for it.
    #[error(
        "`separator` must be a comma, a semicolon or a space (and is needed for `timestamp_prefix`), found {0:?}"
    )]
    Separator(String),
    /// Both prefixes fit one entry.
    #[error("`prefix` and `timestamp_prefix` must be such that no entry begins with both")]
    Prefixes,
    /// The first header is also another one.
    #[error("`{0}` must be another header than `header`")]
    SameHeader(&'static str),
}

/// Why a template cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// An unknown field, or a lone brace.
    #[error("expected {{id}}, {{ts}}, {{body}}, {{method}} or {{path}} at {0:?}")]
    Unknown(String),
    /// Not exactly one body.
    #[error("{{body}} must be there once, found {0} times")]
    Bodies(usize),
}

/// A piece of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// As it stands.
    Text(&'a str),
    /// `{id}`.
    Id,
    /// `{ts}`.
    Timestamp,
    /// `{body}`.
    Body,
    /// `{method}`.
    Method,
    /// `{path}`.
    Path,
}

impl CustomScheme {
    /// The template's pieces; without a template the body alone is signed.
    pub fn pieces(&self) -> Result<Vec<Piece<'_>>, TemplateError> {
        if self.template.is_empty() {
            return Ok(vec![Piece::Body]);
        }
        const FIELDS: [(&str, Piece<'static>); 5] = [
            ("{id}", Piece::Id),
            ("{ts}", Piece::Timestamp),
            ("{body}", Piece::Body),
            ("{method}", Piece::Method),
            ("{path}", Piece::Path),
        ];
        let mut pieces = Vec::new();
        let mut rest = self.template.as_str();
        while !rest.is_empty() {
            let text = rest.find(['{', '}']).unwrap_or(rest.len());
            if text > 0 {
                pieces.push(Piece::Text(&rest[..text]));
                rest = &rest[text..];
                continue;
            }
            let Some((name, piece)) = FIELDS.iter().find(|(name, _)| rest.starts_with(name)) else {
                return Err(TemplateError::Unknown(rest.chars().take(20).collect()));
            };
            pieces.push(*piece);
            rest = &rest[name.len()..];
        }
        let bodies = pieces.iter().filter(|p| **p == Piece::Body).count();
        if bodies != 1 {
            return Err(TemplateError::Bodies(bodies));
        }
        Ok(pieces)
    }

    /// Whether it can be saved: everything that would make every message, or any message, pass or fail is refused.
    pub fn check(&self) -> Result<(), SchemeError> {
        if self.header.is_empty() {
            return Err(SchemeError::NoHeader);
        }
        self.check_texts()?;
        let pieces = self.pieces().map_err(SchemeError::Template)?;
        if pieces.contains(&Piece::Id) && self.id_header.is_empty() {
            return Err(SchemeError::NoId);
        }
        let sources = [&self.timestamp_header, &self.timestamp_prefix];
        let sources = sources.iter().filter(|text| !text.is_empty()).count();
        if pieces.contains(&Piece::Timestamp) {
            if sources != 1 {
                return Err(SchemeError::NoTimestamp);
            }
            if !(1..=MAX_TOLERANCE_SECONDS).contains(&self.tolerance_seconds.unwrap_or(0)) {
                return Err(SchemeError::Tolerance);
            }
        } else if sources > 0 || self.tolerance_seconds.is_some() {
            return Err(SchemeError::UnsignedTimestamp);
        }
        let separated = [",", ";", " "].contains(&self.separator.as_str());
        if !separated && !(self.separator.is_empty() && self.timestamp_prefix.is_empty()) {
            return Err(SchemeError::Separator(self.separator.clone()));
        }
        let (signature, timestamp) = (&self.prefix, &self.timestamp_prefix);
        if !timestamp.is_empty()
            && (signature.starts_with(timestamp.as_str())
                || timestamp.starts_with(signature.as_str()))
        {
            return Err(SchemeError::Prefixes);
        }
        Ok(())
    }

    fn check_texts(&self) -> Result<(), SchemeError> {
        let headers = [
            ("header", &self.header),
            ("id_header", &self.id_header),
            ("timestamp_header", &self.timestamp_header),
            ("event_header", &self.event_header),
        ];
        for (field, name) in headers {
            if name.len() > MAX_TEXT_BYTES {
                return Err(SchemeError::TooLong { field });
            }
            if !name.is_empty() && http::HeaderName::from_bytes(name.as_bytes()).is_err() {
                let found = name.clone();
                return Err(SchemeError::HeaderName { field, found });
            }
            if field != "header" && name.eq_ignore_ascii_case(&self.header) {
                return Err(SchemeError::SameHeader(field));
            }
        }
        let texts = [
            ("prefix", &self.prefix),
            ("key_prefix", &self.key_prefix),
            ("template", &self.template),
            ("timestamp_prefix", &self.timestamp_prefix),
        ];
        match texts.iter().find(|(_, text)| text.len() > MAX_TEXT_BYTES) {
            Some((field, _)) => Err(SchemeError::TooLong { field }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheme(text: &str) -> Result<(), String> {
        let scheme: CustomScheme = serde_json::from_str(text).map_err(|error| error.to_string())?;
        scheme.check().map_err(|error| error.to_string())
    }

    #[test]
    fn a_template_is_cut_at_its_fields() {
        let scheme = CustomScheme {
            template: "v0:{ts}:{method} {path}\n{body}.{id}".into(),
            ..CustomScheme::default()
        };
        use Piece::*;
        let expected = [
            Text("v0:"),
            Timestamp,
            Text(":"),
            Method,
            Text(" "),
            Path,
            Text("\n"),
            Body,
            Text("."),
            Id,
        ];
        assert_eq!(scheme.pieces().unwrap(), expected);
        assert_eq!(CustomScheme::default().pieces().unwrap(), [Body]);
    }

    #[test]
    fn every_wrong_scheme_is_refused_with_the_way_out() {
        for (text, said) in [
            ("{}", "`header` is missing"),
            (r#"{"header":"X Y"}"#, "`header` is no name of a header"),
            (
                r#"{"header":"X","event_header":"é"}"#,
                "`event_header` is no name",
            ),
            (r#"{"header":"X","heade":"Y"}"#, "unknown field"),
            (r#"{"header":"X","algorithm":"sha1"}"#, "unknown variant"),
            (
                r#"{"header":"X","template":"{bdy}"}"#,
                "expected {id}, {ts}",
            ),
            (
                r#"{"header":"X","template":"{body"}"#,
                "expected {id}, {ts}",
            ),
            (
                r#"{"header":"X","template":"}{body}"}"#,
                "expected {id}, {ts}",
            ),
            (
                r#"{"header":"X","template":"{path}"}"#,
                "{body} must be there once, found 0 times",
            ),
            (
                r#"{"header":"X","template":"{body}{body}"}"#,
                "found 2 times",
            ),
            (
                r#"{"header":"X","template":"{id}.{body}"}"#,
                "`id_header` must name",
            ),
            (
                r#"{"header":"X","template":"{ts}.{body}"}"#,
                "exactly one of",
            ),
            (
                r#"{"header":"X","template":"{ts}.{body}","timestamp_header":"T"}"#,
                "`tolerance_seconds` must say",
            ),
            (
                r#"{"header":"X","template":"{ts}.{body}","timestamp_header":"T","tolerance_seconds":0}"#,
                "`tolerance_seconds` must say",
            ),
            (
                r#"{"header":"X","template":"{ts}.{body}","timestamp_header":"T","tolerance_seconds":86401}"#,
                "`tolerance_seconds` must say",
            ),
            (
                r#"{"header":"X","timestamp_header":"T"}"#,
                "only if it is signed",
            ),
            (
                r#"{"header":"X","tolerance_seconds":300}"#,
                "only if it is signed",
            ),
            (r#"{"header":"X","separator":"+"}"#, "`separator` must be"),
            (
                r#"{"header":"X","template":"{ts},{body}","timestamp_prefix":"t=","tolerance_seconds":300,"prefix":"v1="}"#,
                "`separator` must be",
            ),
            (
                r#"{"header":"X","template":"{ts},{body}","timestamp_prefix":"t=","tolerance_seconds":300,"separator":","}"#,
                "no entry begins with both",
            ),
            (
                r#"{"header":"X","event_header":"x"}"#,
                "another header than",
            ),
        ] {
            let error = scheme(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
        let long = format!(r#"{{"header":"X","prefix":"{}"}}"#, "a".repeat(257));
        assert!(scheme(&long).unwrap_err().contains("longer than 256 bytes"));
    }

    #[test]
    fn the_schemes_of_known_senders_can_be_said() {
        for text in [
            r#"{"header":"X-Convoy-Signature"}"#,
            r#"{"header":"X-Convoy-Signature","separator":",","prefix":"v1=","timestamp_prefix":"t=","template":"{ts},{body}","tolerance_seconds":300}"#,
            r#"{"header":"webhook-signature","separator":" ","prefix":"v1,","encoding":"base64","key":"base64","key_prefix":"whsec_","template":"{id}.{ts}.{body}","id_header":"webhook-id","timestamp_header":"webhook-timestamp","tolerance_seconds":300}"#,
            r#"{"header":"X-Signature-Ed25519","algorithm":"ed25519","key":"hex","template":"{ts}{body}","timestamp_header":"X-Signature-Timestamp","tolerance_seconds":300}"#,
        ] {
            assert_eq!(scheme(text), Ok(()), "{text}");
        }
    }
}
