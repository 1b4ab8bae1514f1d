//! Every way in which a message of every sender can be malformed, stale or changed.

use super::scheme::{KEY, NOW, Scheme, judged};
use super::senders::all;
use super::*;

const CONTENT: &[u8] = b"{\"ref\":\"refs/heads/main\"}";

fn good(scheme: &Scheme, lines: &[&str]) -> bool {
    let message = scheme.sign(&KEY, CONTENT, NOW);
    let request = message.arrive_with(lines).unwrap();
    judged(scheme, &scheme.secret(&KEY), &request, NOW).is_ok()
}

#[test]
fn a_signature_that_is_missing_empty_cut_or_doubled_is_refused() {
    for scheme in all() {
        let name = scheme.name;
        let message = scheme.sign(&KEY, CONTENT, NOW);
        let value = message.value();
        let signature = message.encoded(&message.signature);
        let with = |other: &str| value.replace(&signature, other);
        assert!(good(&scheme, &[&value]), "{name}: good");
        assert!(!good(&scheme, &[]), "{name}: missing");
        assert!(!good(&scheme, &[""]), "{name}: empty");
        assert!(
            !good(&scheme, &["", &value]),
            "{name}: two lines, one empty"
        );
        assert!(!good(&scheme, &[&value, &value]), "{name}: two lines");
        assert!(!good(&scheme, &[&with("")]), "{name}: no digest");
        let cut = &signature[..signature.len() - 1];
        assert!(!good(&scheme, &[&with(cut)]), "{name}: one digit short");
        let half = message.encoded(&message.signature[..message.signature.len() / 2]);
        assert!(!good(&scheme, &[&with(&half)]), "{name}: half a digest");
        let longer = [&message.signature[..], &[0]].concat();
        let longer = message.encoded(&longer);
        assert!(!good(&scheme, &[&with(&longer)]), "{name}: a byte too long");
        for junk in ["0", "zz", "é", "=", "null", "Infinity", ",,,,", "v1", "%00"] {
            assert!(!good(&scheme, &[&with(junk)]), "{name}: {junk}");
            assert!(!good(&scheme, &[junk]), "{name}: {junk} alone");
        }
        let upper = signature.to_uppercase();
        let hexadecimal = hex::decode(&signature).is_ok();
        assert_eq!(
            good(&scheme, &[&with(&upper)]),
            hexadecimal,
            "{name}: the case of hex is free, that of base64 is not"
        );
    }
}

#[test]
fn any_of_several_signatures_may_fit_but_not_of_endlessly_many() {
    let mut seen = 0;
    for scheme in all() {
        let Some((separator, prefix)) = scheme.second else {
            continue;
        };
        seen += 1;
        let name = scheme.name;
        let message = scheme.sign(&KEY, CONTENT, NOW);
        let good_one = message.encoded(&message.signature);
        let mut bad = message.signature.clone();
        bad[0] ^= 1;
        let bad = format!("{prefix}{}", message.encoded(&bad));
        let only_bad = message
            .value()
            .replace(&format!("{prefix}{good_one}"), &bad);
        let entry = format!("{separator}{prefix}{good_one}");
        assert!(!good(&scheme, &[&only_bad]), "{name}: only a bad one");
        let second = format!("{only_bad}{entry}");
        assert!(good(&scheme, &[&second]), "{name}: the second fits");
        let first = format!("{}{separator}{bad}", message.value());
        assert!(good(&scheme, &[&first]), "{name}: the first fits");
        let unreadable = format!("{prefix}zz{separator}{}", message.value());
        assert!(good(&scheme, &[&unreadable]), "{name}: one cannot be read");
        let many = |count: usize| {
            let others = format!("{separator}{bad}").repeat(count - 2);
            format!("{only_bad}{others}{entry}")
        };
        assert!(good(&scheme, &[&many(16)]), "{name}: the sixteenth fits");
        assert!(!good(&scheme, &[&many(17)]), "{name}: seventeen");
        let other_version = format!(
            "v9{}",
            prefix.trim_start_matches(|c: char| c.is_alphanumeric())
        );
        let unknown = message.value().replace(prefix, &other_version);
        assert!(
            !good(&scheme, &[&unknown]),
            "{name}: another version is no pass"
        );
    }
    assert!(seen >= 7, "only {seen} senders send several");
}

#[test]
fn a_message_is_good_for_its_window_both_ways_and_no_second_longer() {
    let mut seen = 0;
    for scheme in all() {
        let request = scheme.sign(&KEY, CONTENT, NOW).arrive().unwrap();
        let at = |now| judged(&scheme, &scheme.secret(&KEY), &request, now).is_ok();
        let name = scheme.name;
        let Some(tolerance) = scheme.tolerance else {
            assert!(at(i64::MIN) && at(i64::MAX), "{name}: has no time");
            continue;
        };
        seen += 1;
        for (now, expected) in [
            (NOW + tolerance, true),
            (NOW - tolerance, true),
            (NOW + tolerance + 1, false),
            (NOW - tolerance - 1, false),
            (i64::MIN, false),
            (i64::MAX, false),
            (0, false),
        ] {
            assert_eq!(at(now), expected, "{name}: {now}");
        }
    }
    assert!(seen >= 9, "only {seen} senders sign a time");
}

/// A timestamp that only looks like one, correctly signed.
#[test]
fn a_timestamp_must_be_decimal_digits() {
    for scheme in all() {
        let scheme::Content::Timed(_) = scheme.content else {
            continue;
        };
        for text in [
            "",
            "Infinity",
            "+5",
            "-5",
            " 5",
            "5.0",
            "1e9",
            "99999999999999999999",
        ] {
            let message = scheme.sign_as_of(&KEY, CONTENT, NOW, text);
            let request = message.arrive().unwrap();
            let judged = judged(&scheme, &scheme.secret(&KEY), &request, NOW);
            assert!(judged.is_err(), "{}: {text:?}", scheme.name);
        }
        for edge in [i64::MIN, i64::MAX] {
            let request = scheme.sign(&KEY, CONTENT, edge).arrive().unwrap();
            let judged = judged(&scheme, &scheme.secret(&KEY), &request, NOW);
            assert!(judged.is_err(), "{}: {edge}", scheme.name);
        }
    }
}

#[test]
fn a_body_that_is_not_exactly_the_signed_one_is_refused() {
    for scheme in all() {
        let message = scheme.sign(&KEY, CONTENT, NOW);
        let mut one_byte = message.body.clone();
        one_byte[3] ^= 1;
        let bodies = [
            one_byte,
            [&message.body[..], b"\n"].concat(),
            [b"\xef\xbb\xbf", &message.body[..]].concat(),
            message.body[..message.body.len() - 1].to_vec(),
            Vec::new(),
        ];
        for body in bodies {
            let shown = String::from_utf8_lossy(&body).into_owned();
            let changed = scheme::Message {
                body,
                ..message.clone()
            };
            let request = changed.arrive().unwrap();
            let judged = judged(&scheme, &scheme.secret(&KEY), &request, NOW);
            assert!(judged.is_err(), "{}: {shown:?}", scheme.name);
        }
    }
}

#[test]
fn every_active_secret_is_tried_and_the_one_that_fits_is_told() {
    for scheme in all() {
        let request = scheme.sign(&KEY, CONTENT, NOW).arrive().unwrap();
        let secret = |key: &[u8; 32]| WebhookSecret::new(scheme.secret(key)).unwrap();
        let (new, old) = (secret(&[1; 32]), secret(&KEY));
        let unusable = WebhookSecret::new("?").unwrap();
        for (secrets, expected) in [
            (vec![old.clone()], Some(0)),
            (vec![new.clone(), old.clone()], Some(1)),
            (
                vec![unusable.clone(), new.clone(), old.clone(), new.clone()],
                Some(2),
            ),
            (vec![new.clone(), unusable], None),
        ] {
            let judged = verify(&scheme.binding, &request, &secrets, NOW);
            let fits = judged.ok().and_then(|verified| verified.secret);
            assert_eq!(fits, expected, "{}", scheme.name);
        }
        let open = verify(&scheme.binding, &request, &[], NOW).unwrap();
        assert_eq!(open.secret, None, "nobody is verified without a secret");
    }
}
