//! Instants as they are written in payloads: ISO 8601 in UTC, with `Z`.

use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};

/// Of events and entities: milliseconds, always three digits, as in CircleCI's samples.
const MILLIS: &[BorrowedFormatItem<'static>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
/// Of commits: git knows whole seconds.
const SECONDS: &[BorrowedFormatItem<'static>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");

/// `2021-09-01T22:49:34.317Z`; what is finer is cut off.
pub fn iso_ms(at: OffsetDateTime) -> String {
    written(at, MILLIS)
}

/// `2021-09-01T22:48:53Z`.
pub fn iso_seconds(at: OffsetDateTime) -> String {
    written(at, SECONDS)
}

fn written(at: OffsetDateTime, format: &[BorrowedFormatItem<'static>]) -> String {
    // Both formats have only parts that every instant has.
    at.to_offset(UtcOffset::UTC)
        .format(format)
        .unwrap_or_default()
}

/// A foreign RFC 3339 text in the words of [`iso_seconds`]; `None` if it is none.
pub fn normalised(text: &str) -> Option<String> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Some(iso_seconds(at))
}

/// Milliseconds since 1970 in the words of [`iso_seconds`]; `None` if they are out of range.
pub fn of_millis(millis: i64) -> Option<String> {
    let at = OffsetDateTime::from_unix_timestamp(millis.div_euclid(1000)).ok()?;
    Some(iso_seconds(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn instants_have_three_digits_and_are_in_utc() {
        assert_eq!(
            iso_ms(datetime!(2021-09-01 22:49:34.317_9 UTC)),
            "2021-09-01T22:49:34.317Z"
        );
        assert_eq!(
            iso_ms(datetime!(2021-09-02 00:49:34 +2)),
            "2021-09-01T22:49:34.000Z"
        );
    }

    #[test]
    fn foreign_instants_are_normalised_or_left_out() {
        let cases = [
            ("2022-04-13T11:10:16+02:00", Some("2022-04-13T09:10:16Z")),
            ("2022-04-13T11:10:16.5Z", Some("2022-04-13T11:10:16Z")),
            ("2022-04-13 11:10", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(normalised(text).as_deref(), expected, "{text}");
        }
        assert_eq!(
            of_millis(1_700_000_000_999).as_deref(),
            Some("2023-11-14T22:13:20Z")
        );
        assert_eq!(of_millis(i64::MAX), None);
    }
}
