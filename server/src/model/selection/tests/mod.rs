//! The edges of the choice, rule by rule.

mod memory;

use super::history::Position;
use super::{Blocked, Reason, Wish};
use memory::{Memory, every, input, latest, version};

#[test]
fn what_a_build_made_comes_before_what_it_used() {
    let mut memory = Memory::default().list("repo", &["a", "b"]);
    memory.make("bump", &[("repo", "b")], &[("repo", "a")]);
    assert_eq!(memory.words(&[latest("repo", &["bump"])]), ["b"]);
    // What it made may not be used: then what it used passed.
    memory.disable("repo", "b");
    assert_eq!(memory.words(&[latest("repo", &["bump"])]), ["a"]);
}

#[test]
fn versions_that_never_passed_together_are_not_combined() {
    let mut memory = Memory::default()
        .list("x", &["1", "2"])
        .list("y", &["1", "2"]);
    memory.build("unit", &[("x", "1"), ("y", "1")]);
    memory.build("unit", &[("x", "2"), ("y", "2")]);
    memory.build("lint", &[("x", "2")]);
    memory.build("scan", &[("y", "1")]);
    let inputs = [
        latest("x", &["unit", "lint"]),
        latest("y", &["unit", "scan"]),
    ];
    let selected = memory.select(&inputs);
    assert!(selected.inputs.is_empty());
    let Reason::NotPassed { blocked, .. } = &selected.errors["y"] else {
        panic!("{:?}", selected.errors);
    };
    let missing = vec!["scan".to_owned()];
    assert!(matches!(blocked, Blocked::NotYet { missing: it, .. } if *it == missing));
    memory.build("scan", &[("y", "2")]);
    assert_eq!(memory.words(&inputs), ["2", "2"]);
}

#[test]
fn versions_that_passed_apart_are_told_apart() {
    let mut memory = Memory::default()
        .list("x", &["1", "2"])
        .list("y", &["1", "2"]);
    memory.build("unit", &[("x", "2"), ("y", "1")]);
    memory.build("lint", &[("x", "2"), ("y", "2")]);
    memory.build("lint", &[("x", "1"), ("y", "1")]);
    let inputs = [
        latest("x", &["unit", "lint"]),
        latest("y", &["unit", "lint"]),
    ];
    let selected = memory.select(&inputs);
    let words = selected.errors["x"].explain("x");
    assert_eq!(
        words,
        "input x: no version of x has passed together with those of y"
    );
}

#[test]
fn inputs_are_related_through_others() {
    // x and y have no job in common; z ties them together.
    let mut memory = Memory::default()
        .list("x", &["1", "2"])
        .list("y", &["1", "2"])
        .list("z", &["1"]);
    memory.build("a", &[("x", "1"), ("z", "1")]);
    memory.build("a", &[("x", "2")]);
    memory.build("b", &[("y", "1"), ("z", "1")]);
    memory.build("b", &[("y", "2")]);
    let inputs = [
        latest("x", &["a"]),
        latest("y", &["b"]),
        latest("z", &["a", "b"]),
    ];
    assert_eq!(memory.words(&inputs), ["1", "1", "1"]);
    assert_eq!(memory.words(&inputs[..2]), ["2", "2"]);
}

#[test]
fn a_rerun_of_the_last_used_build_is_neither_newer_nor_older() {
    let mut memory = Memory::default().list("x", &["1", "2", "3"]);
    let first = memory.build("unit", &[("x", "2")]);
    let inputs = [every("x", &["unit"])];
    let selected = memory.select(&inputs);
    memory.take(&selected);
    memory.rerun(first, &[], &[("x", "3")]);
    assert_eq!(memory.words(&inputs), ["2"]);
    assert!(!memory.select(&inputs).has_next);
    memory.build("unit", &[("x", "1")]);
    let next = memory.select(&inputs);
    assert_eq!(next.inputs["x"].version, version("1"));
    assert!(next.has_next);
}

#[test]
fn after_a_rerun_was_used_its_own_reruns_count() {
    let at = |number, rerun| Position { number, rerun };
    assert!(at(4, 0).is_newer_than(at(3, 2)) && !at(4, 0).is_not_newer_than(at(3, 2)));
    assert!(!at(3, 1).is_newer_than(at(3, 0)) && !at(3, 1).is_not_newer_than(at(3, 0)));
    assert!(at(3, 2).is_newer_than(at(3, 1)) && at(3, 0).is_not_newer_than(at(3, 1)));
    assert!(!at(3, 1).is_newer_than(at(3, 1)) && at(3, 1).is_not_newer_than(at(3, 1)));
    assert!(!at(2, 9).is_newer_than(at(3, 0)) && at(2, 9).is_not_newer_than(at(3, 0)));
}

#[test]
fn every_build_of_a_backlog_is_taken_in_turn() {
    let words: Vec<String> = (0..70).map(|at| format!("{at:02}")).collect();
    let all: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut memory = Memory::default().list("x", &all);
    memory.build("unit", &[("x", "00")]);
    let inputs = [every("x", &["unit"])];
    let first = memory.select(&inputs);
    memory.take(&first);
    for word in &all[1..] {
        memory.build("unit", &[("x", word)]);
    }
    for word in &all[1..] {
        let selected = memory.select(&inputs);
        assert_eq!(selected.inputs["x"].version["ref"], *word);
        assert!(selected.inputs["x"].first_occurrence && selected.has_next);
        memory.take(&selected);
    }
    let over = memory.select(&inputs);
    assert!(!over.has_next && !over.inputs["x"].first_occurrence);
}

#[test]
fn a_pin_needs_its_version_to_have_passed() {
    let mut memory = Memory::default().list("x", &["1", "2", "3"]);
    memory.build("unit", &[("x", "1")]);
    memory.build("unit", &[("x", "3")]);
    let pinned = |word| [input("x", &["unit"], Wish::Pinned(version(word)))];
    assert_eq!(memory.words(&pinned("1")), ["1"]);
    let blocked = memory.select(&pinned("2"));
    assert_eq!(
        blocked.errors["x"].explain("x"),
        "input x: version {ref: 2} of x has not passed unit"
    );
    let unknown = memory.select(&pinned("9"));
    assert_eq!(
        unknown.errors["x"].to_string(),
        "pinned version ref:9 not found"
    );
}

#[test]
fn a_job_whose_builds_used_nothing_that_may_be_used_is_named() {
    let mut memory = Memory::default().list("x", &["1"]);
    memory.build("unit", &[("x", "1")]);
    memory.disable("x", "1");
    let selected = memory.select(&[latest("x", &["unit"])]);
    let Reason::NotPassed { blocked, .. } = &selected.errors["x"] else {
        panic!("{:?}", selected.errors);
    };
    let job = "unit".to_owned();
    assert_eq!(*blocked, Blocked::NotUsed { job });
}

#[test]
fn what_fits_is_found_in_a_few_looks_however_long_the_history() {
    let words: Vec<String> = (0..2000).map(|at| format!("{at:04}")).collect();
    let all: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut memory = Memory::default().list("x", &all);
    for (job, words) in [("a", &all[..]), ("b", &all[..]), ("c", &all[..1])] {
        let builds = (1..).zip(words);
        for (number, word) in builds {
            memory.add(job, Position { number, rerun: 0 }, &[], &[("x", word)]);
        }
    }
    assert_eq!(memory.words(&[latest("x", &["a", "b"])]), ["1999"]);
    assert!(memory.looks < 5, "{}", memory.looks);
    memory.looks = 0;
    let never = memory.select(&[latest("x", &["a", "d"])]);
    assert_eq!(never.errors.len(), 1);
    assert!(memory.looks < 5, "{}", memory.looks);
    memory.looks = 0;
    assert_eq!(memory.words(&[latest("x", &["a", "b", "c"])]), ["0000"]);
    assert!(memory.looks < 40, "{}", memory.looks);
}

#[test]
fn what_nobody_vouches_for_is_not_tried_in_every_combination() {
    let words: Vec<String> = (0..60).map(|at| at.to_string()).collect();
    let all: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut memory = Memory::default().list("tool", &["1", "2"]);
    let names = ["p", "q", "r"];
    for (job, name) in ["a", "b", "c"].iter().zip(names) {
        memory = memory.list(name, &all);
        for word in &all {
            memory.build(job, &[(name, word), ("tool", "1")]);
        }
    }
    memory.build("z", &[("tool", "2")]);
    let inputs = [
        latest("p", &["a"]),
        latest("q", &["b"]),
        latest("r", &["c"]),
        latest("tool", &["a", "b", "c", "z"]),
    ];
    let selected = memory.select(&inputs);
    let words = selected.errors["tool"].explain("tool");
    assert_eq!(
        words,
        "input tool: version {ref: 2} of tool has passed z but not a, b, c"
    );
}

#[test]
fn a_search_through_endless_combinations_is_given_up() {
    let words: Vec<String> = (0..60).map(|at| at.to_string()).collect();
    let all: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut memory = Memory::default().list("tool", &["1"]).list("w", &["1"]);
    let names = ["p", "q", "r"];
    for (job, name) in ["a", "b", "c"].iter().zip(names) {
        memory = memory.list(name, &all);
        for word in &all {
            memory.build(job, &[(name, word), ("tool", "1")]);
        }
    }
    // Only after everything else is chosen it shows that nobody vouches for w.
    memory.build("z", &[("tool", "1"), ("w", "1")]);
    let inputs = [
        latest("p", &["a"]),
        latest("q", &["b"]),
        latest("r", &["c"]),
        latest("tool", &["a", "b", "c", "z"]),
        latest("w", &["z", "a"]),
    ];
    let selected = memory.select(&inputs);
    let Reason::NotPassed { blocked, .. } = &selected.errors["w"] else {
        panic!("{:?}", selected.errors);
    };
    assert_eq!(*blocked, Blocked::TooMany);
}
