//! Both languages, with the seed's expressions and with hostile ones.

use super::*;
use std::time::{Duration, Instant};

fn push() -> WebhookVars {
    WebhookVars {
        provider: "github".into(),
        event_type: "push".into(),
        method: "POST".into(),
        headers: BTreeMap::from([("x-github-event".into(), "push".into())]),
        query: BTreeMap::from([("a".into(), "1".into())]),
        body: r#"{"ref":"refs/heads/main","n":1,"f":1.5,"draft":null,"commits":[{"id":"a"},{"id":"b"}],
                  "branches":["main","dev"],"event":{"type":"app_mention"}}"#
            .into(),
    }
}

fn holds(text: &str) -> bool {
    Expression::compile(text)
        .and_then(|expression| expression.matches(&push()))
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn the_seeds_expressions_hold() {
    for text in [
        r#"provider == "github" && eventType == "push" && payload.ref == "refs/heads/main""#,
        r#"payload.event.type == "app_mention""#,
        r#"provider == "github" && eventType == "push""#,
        r#"payload.ref == "refs/heads/main""#,
        r#"method == "POST" && query.a == "1" && body != """#,
    ] {
        assert!(holds(text), "{text}");
    }
    assert!(!holds(
        r#"provider == "slack" && payload.event.type == "app_mention""#
    ));
}

#[test]
fn both_languages_are_understood() {
    for text in [
        // CEL
        r#"payload.commits.exists(c, c.id == "b")"#,
        r#"payload.commits.all(c, c.id != "z") && size(payload.commits) == 2"#,
        r#"payload.ref.startsWith("refs/heads/")"#,
        r#"payload.ref.matches("^refs/heads/ma.n$")"#,
        r#"has(payload.ref) && !has(payload.nothing)"#,
        r#""main" in payload.branches"#,
        r#"payload.commits != nil"#,
        r#"payload.commits[0].id == "a""#,
        // expr
        r#"payload.ref matches "^refs/heads/""#,
        r#"payload.ref startsWith "refs/""#,
        r#"payload.ref contains "main" and not (provider == "slack")"#,
        r#"payload?.event?.type == "app_mention""#,
        r#"(payload.nothing ?? "x") == "x""#,
        r#"any(payload.commits, {.id == "b"})"#,
    ] {
        assert!(holds(text), "{text}");
    }
}

#[test]
fn missing_keys_are_null_not_errors() {
    for text in [
        r#"payload.x == "y" || eventType == "push""#,
        "!(payload.missing.deeper.still == true)",
        "payload.a.b.c == null",
        "payload.commits[9] == null",
        r#"payload.commits[9].id == null"#,
        r#"headers["nothing"] == null"#,
        "payload.a.b.c == nil and payload.ref contains \"main\"",
        "!payload.missing.exists(x, true)",
    ] {
        assert!(holds(text), "{text}");
    }
    let no_json = WebhookVars {
        body: "not json".into(),
        ..push()
    };
    for (text, expected) in [
        (r#"payload.ref == "x""#, false),
        ("payload == null", true),
        (r#"payload.ref == "x" and provider matches "git""#, false),
    ] {
        assert_eq!(
            Expression::compile(text).unwrap().matches(&no_json),
            Ok(expected),
            "{text}"
        );
    }
}

#[test]
fn headers_are_found_in_any_case() {
    for text in [
        r#"headers["X-GitHub-Event"] == "push""#,
        r#"headers["x-github-event"] == "push""#,
        r#"headers["X-Github-Event"] contains "us""#,
    ] {
        assert!(holds(text), "{text}");
    }
}

#[test]
fn numbers_compare_as_people_expect() {
    for text in [
        "payload.n == 1",
        "payload.f > 1.0",
        "payload.n < 2",
        "payload.n == 1 and payload.ref contains \"m\"",
    ] {
        assert!(holds(text), "{text}");
    }
}

#[test]
fn what_is_no_condition_is_said_so() {
    let error = Expression::compile("payload.ref")
        .unwrap()
        .matches(&push())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the expression must be true or false, but is \"refs/heads/main\""
    );
}

#[test]
fn an_invalid_expression_names_both_languages() {
    let error = Expression::compile("provider === ")
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.starts_with("the expression is neither CEL (") && error.contains(") nor expr ("),
        "{error}"
    );
    assert!(Expression::compile(&"x".repeat(5000)).is_err());
    assert!(Expression::compile(&"(".repeat(4000)).is_err());
    assert!(Expression::compile(&"!".repeat(4000)).is_err());
}

#[test]
fn garbage_never_panics_outwards() {
    let mut state = 42u64;
    let alphabet: Vec<char> = "ab.?[](){}\"'`&|!=<>+-*/%:,#\\ \n0é\u{0}".chars().collect();
    for _ in 0..2000 {
        let text: String = (0..20)
            .map(|_| {
                // A linear congruential generator: the same texts in every run.
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                alphabet[(state >> 33) as usize % alphabet.len()]
            })
            .collect();
        if let Ok(expression) = Expression::compile(&text) {
            let _ = expression.evaluate(&push());
        }
    }
}

#[test]
fn nesting_within_the_limits_cannot_overflow_the_stack() {
    let deep = |open: &str, close: &str, times: usize| {
        format!("{}true{}", open.repeat(times), close.repeat(times))
    };
    for text in [
        deep("(", ")", MAX_NESTING),
        deep("[", "][0]", MAX_NESTING),
        deep("!", "", MAX_NESTING * 8),
        deep("not ", "", 1000),
        deep("true ? true : ", "", MAX_NESTING * 7),
        format!("payload{}", ".a".repeat(MAX_NESTING * 8)),
        deep("true && ", "", 500),
    ] {
        if let Ok(expression) = Expression::compile(&text) {
            let _ = expression.evaluate(&push());
        }
    }
}

#[test]
fn loops_are_bounded() {
    let many: Vec<u32> = (0..15_000).collect();
    let vars = WebhookVars {
        body: serde_json::json!({ "items": many }).to_string(),
        ..push()
    };
    let started = Instant::now();
    for text in [
        "payload.items.all(x, payload.items.all(y, x + y >= 0))",
        "payload.items.exists(x, payload.items.exists(y, x + y < 0))",
    ] {
        // Whatever comes out, it comes soon.
        let _ = Expression::compile(text).unwrap().matches(&vars);
    }
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
    assert!(Expression::compile("[1].all(a, [1].all(b, [1].all(c, true)))").is_err());
    assert!(Expression::compile("len(1..100000000) > 1").is_err());
    assert!(Expression::compile("any(payload.a, any(payload.b, true))").is_err());
}

#[test]
fn the_cache_gives_the_same_expression_and_remembers_errors() {
    let cache = ExpressionCache::default();
    let first = cache.get("provider == \"github\"").unwrap();
    assert!(Arc::ptr_eq(
        &first,
        &cache.get("provider == \"github\"").unwrap()
    ));
    let Err(error) = cache.get("===") else {
        panic!("compiled")
    };
    assert_eq!(cache.get("===").err(), Some(error));
}
