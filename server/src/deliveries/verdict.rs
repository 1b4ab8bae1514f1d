//! What follows from an answer: pure.

use super::request::HIDDEN;
use super::schedule::{breaker, wait_after};
use crate::model::delivery::{Next, TryEnd, TryState};
use crate::model::subscription::DisabledReason;
use bytes::Bytes;
use pocketci_outside::again::retry_after;
use pocketci_outside::exchange::{Answer, ExchangeError, Exchanged};
use std::time::Duration;
use time::OffsetDateTime;

/// Tries of what will hardly change by itself: 4xx but 408, 425 and 429, and addresses that may not be reached.
const HOPELESS_TRIES: i32 = 3;
/// Bytes of an answer's headers that are kept.
const MAX_KEPT_HEADER_BYTES: usize = 16 * 1024;
/// Longest pause that a receiver's 429 brings to all of its deliveries.
const MAX_ASKED_PAUSE: Duration = Duration::from_secs(3600);
/// Shortest text that is looked for in what came back; shorter ones are everywhere.
const MIN_HIDDEN_BYTES: usize = 4;
/// How a receiver tells what it wants (Standard Webhooks' servers do alike).
const WISH: &str = "webhook-delivery";

/// What is known beside the answer.
pub(super) struct Case<'a> {
    /// Number of this try, from 1.
    pub(super) number: i32,
    /// Failures of the receiver in a row before this one.
    pub(super) failures: i64,
    /// Waits.
    pub(super) schedule: &'a [Duration],
    /// For dates.
    pub(super) now: OffsetDateTime,
    /// In 0..1.
    pub(super) chance: f64,
}

/// What follows.
#[derive(Debug, PartialEq)]
pub(super) struct Verdict {
    pub(super) next: Next,
    /// For the whole subscription.
    pub(super) pause: Option<Duration>,
    /// The subscription is to be disabled.
    pub(super) disable: Option<DisabledReason>,
}

/// Decides.
pub(super) fn verdict(exchanged: &Exchanged, case: &Case<'_>) -> Verdict {
    let wish = exchanged.answer.as_ref().and_then(|answer| {
        let wish = answer.header(WISH)?;
        Some(wish.trim().to_ascii_lowercase())
    });
    let asks_to_disable = wish.as_deref() == Some("disable");
    let done = |next: Next, disable| Verdict {
        next,
        pause: None,
        disable,
    };
    let disable = asks_to_disable.then_some(DisabledReason::Asked);
    if exchanged.is_success() {
        return done(Next::Done, disable);
    }
    let status = exchanged.answer.as_ref().map(|answer| answer.status);
    if status == Some(410) {
        let told = "the receiver answered 410: it is gone for good".to_owned();
        return done(Next::Drop(told), Some(DisabledReason::Gone));
    }
    if asks_to_disable {
        let told = "the receiver asks to be told nothing more".to_owned();
        return done(Next::Drop(told), disable);
    }
    if wish.as_deref() == Some("abort-message") {
        let told = "the receiver asks to try this one no more".to_owned();
        return done(Next::Drop(told), None);
    }
    let asked = asked(exchanged.answer.as_ref(), case.now);
    let pause = match (status, asked) {
        (Some(429), Some(asked)) => Some(asked.min(MAX_ASKED_PAUSE)),
        _ => None,
    };
    Verdict {
        next: again(exchanged, case, asked),
        pause: pause.max(breaker(case.failures + 1, case.chance)),
        disable: None,
    }
}

fn asked(answer: Option<&Answer>, now: OffsetDateTime) -> Option<Duration> {
    retry_after(answer?.header("retry-after")?, now)
}

fn again(exchanged: &Exchanged, case: &Case<'_>, asked: Option<Duration>) -> Next {
    let hopeless = match (&exchanged.error, &exchanged.answer) {
        (Some(ExchangeError::Blocked(_)), _) => true,
        (Some(_), _) | (None, None) => false,
        (None, Some(answer)) => {
            (400..500).contains(&answer.status) && !matches!(answer.status, 408 | 425 | 429)
        }
    };
    let wait = wait_after(case.schedule, case.number, asked, case.chance);
    match wait {
        Some(wait) if !hopeless || case.number < HOPELESS_TRIES => Next::Again(wait),
        Some(_) | None => {
            let times = if case.number == 1 { "try" } else { "tries" };
            Next::Fail(format!(
                "given up after {} {times}: {}",
                case.number,
                told(exchanged)
            ))
        }
    }
}

/// Why it was no success, for people.
pub(super) fn told(exchanged: &Exchanged) -> String {
    match (&exchanged.error, &exchanged.answer) {
        (Some(error), Some(answer)) => format!("status {}, but {error}", answer.status),
        (Some(error), None) => error.to_string(),
        (None, Some(answer)) if (300..400).contains(&answer.status) => {
            format!("status {}: redirects are not followed", answer.status)
        }
        (None, Some(answer)) => format!("status {}", answer.status),
        (None, None) => "there was no answer".to_owned(),
    }
}

/// What is kept of an exchange, without these texts.
pub(super) fn end<'a>(
    exchanged: &Exchanged,
    hidden: impl Iterator<Item = &'a str> + Clone,
) -> TryEnd {
    let (mut headers, mut body) = (Vec::new(), Bytes::new());
    if let Some(answer) = &exchanged.answer {
        let mut room = MAX_KEPT_HEADER_BYTES;
        for (name, value) in &answer.headers {
            let Some(left) = room.checked_sub(name.len() + value.len()) else {
                break;
            };
            room = left;
            let value = without(value.as_bytes(), hidden.clone());
            headers.push((name.clone(), String::from_utf8_lossy(&value).into_owned()));
        }
        body = Bytes::from(without(&answer.body, hidden.clone()));
    }
    let error = match exchanged.is_success() {
        true => String::new(),
        false => told(exchanged),
    };
    let error = without(error.as_bytes(), hidden);
    TryEnd {
        state: match exchanged.is_success() {
            true => TryState::Delivered,
            false => TryState::Failed,
        },
        status: exchanged.answer.as_ref().map(|answer| answer.status),
        headers,
        body,
        error: String::from_utf8_lossy(&error).into_owned(),
        duration: exchanged.duration,
        first_byte: exchanged.first_byte,
        peer: exchanged.peer.map(|peer| peer.to_string()),
    }
}

/// Bytes with each of the hidden texts replaced: receivers that echo a request tell its secrets.
fn without<'a>(bytes: &[u8], hidden: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for text in hidden.map(str::as_bytes) {
        if text.len() < MIN_HIDDEN_BYTES || bytes.len() < text.len() {
            continue;
        }
        let mut kept = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while at < bytes.len() {
            if bytes[at..].starts_with(text) {
                kept.extend_from_slice(HIDDEN.as_bytes());
                at += text.len();
            } else {
                kept.push(bytes[at]);
                at += 1;
            }
        }
        bytes = kept;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: [Duration; 4] = [Duration::from_secs(100); 4];

    fn answered(status: u16, headers: &[(&str, &str)]) -> Exchanged {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Exchanged {
            answer: Some(Answer {
                status,
                headers: headers.iter().map(own).collect(),
                body: Bytes::from_static(b"said hunter22 twice: hunter22"),
                is_cut: false,
            }),
            error: None,
            duration: Duration::from_millis(5),
            first_byte: None,
            peer: None,
        }
    }

    fn failed(error: ExchangeError) -> Exchanged {
        Exchanged {
            answer: None,
            error: Some(error),
            ..answered(0, &[])
        }
    }

    fn after(exchanged: &Exchanged, number: i32) -> Verdict {
        let case = Case {
            number,
            failures: 0,
            schedule: &SCHEDULE,
            now: OffsetDateTime::UNIX_EPOCH,
            chance: 0.5,
        };
        verdict(exchanged, &case)
    }

    fn next(exchanged: &Exchanged, number: i32) -> Next {
        after(exchanged, number).next
    }

    #[test]
    fn only_2xx_is_delivered_and_a_redirect_is_a_failure() {
        for status in [200, 201, 204, 299] {
            assert_eq!(next(&answered(status, &[]), 1), Next::Done);
        }
        let usual = Next::Again(SCHEDULE[0]);
        for status in [101, 301, 302, 307, 408, 425, 429, 500, 503, 599] {
            assert_eq!(next(&answered(status, &[]), 4), usual, "{status}");
            assert!(matches!(next(&answered(status, &[]), 5), Next::Fail(_)));
        }
        let cut = Exchanged {
            error: Some(ExchangeError::Late(Duration::from_secs(10))),
            ..answered(200, &[])
        };
        assert_eq!(next(&cut, 1), usual, "a body that does not end");
    }

    #[test]
    fn what_will_hardly_change_is_tried_three_times() {
        let blocked = failed(ExchangeError::Blocked("no".into()));
        let unresolved = failed(ExchangeError::Failed("cannot resolve".into()));
        assert!(matches!(next(&unresolved, 4), Next::Again(_)));
        for exchanged in [answered(404, &[]), answered(401, &[]), blocked] {
            assert!(matches!(next(&exchanged, 2), Next::Again(_)));
            assert!(matches!(next(&exchanged, 3), Next::Fail(_)));
        }
    }

    #[test]
    fn a_receiver_may_ask_to_wait_to_stop_and_to_be_left_alone() {
        let slow = answered(429, &[("retry-after", "600")]);
        let slow = after(&slow, 1);
        assert_eq!(slow.next, Next::Again(Duration::from_secs(600)));
        assert_eq!(slow.pause, Some(Duration::from_secs(600)));
        let busy = after(&answered(503, &[("retry-after", "600")]), 1);
        assert_eq!((busy.next, busy.pause), (slow.next, None));
        let gone = after(&answered(410, &[]), 1);
        assert_eq!(gone.disable, Some(DisabledReason::Gone));
        assert!(matches!(gone.next, Next::Drop(_)));
        let asked = after(&answered(500, &[(WISH, "Disable")]), 1);
        assert_eq!(asked.disable, Some(DisabledReason::Asked));
        let last = after(&answered(200, &[(WISH, "disable")]), 1);
        assert_eq!((last.next, last.disable), (Next::Done, asked.disable));
        let stop = after(&answered(500, &[(WISH, "abort-message")]), 1);
        assert!(matches!(stop.next, Next::Drop(_)) && stop.disable.is_none());
    }

    #[test]
    fn what_is_kept_of_an_answer_tells_no_secret() {
        let exchanged = answered(500, &[("x-echo", "hunter22")]);
        let kept = end(&exchanged, ["hunter22", "abc"].into_iter());
        assert_eq!(kept.body, Bytes::from_static(b"said *** twice: ***"));
        assert_eq!(kept.headers, [("x-echo".to_owned(), "***".to_owned())]);
        assert_eq!(kept.error, "status 500");
    }
}
