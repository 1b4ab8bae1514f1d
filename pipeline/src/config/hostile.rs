//! For tests: whatever the bytes, reading ends soon, without a panic, with a pipeline or with faults.

use super::vars::Vars;
use super::*;
use std::time::{Duration, Instant};

/// No text of these tests may take longer, in a build without optimisation on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

fn survives(text: &str) {
    let began = Instant::now();
    let mut vars = Vars::new();
    vars.set("v", serde_json::json!(["((w))", {"<<": {"a": 1}}]))
        .unwrap();
    match load("p.yml", text, &vars) {
        Ok(loaded) => {
            let again = format::format(&loaded.config);
            assert!(decoded(&again).is_ok(), "{again}");
            for job in &loaded.config.jobs {
                let _ = crate::plan::plan_of(job);
            }
        }
        Err(faults) => {
            assert!(!faults.is_empty() && !report("p.yml", &faults).is_empty());
        }
    }
    let took = began.elapsed();
    let begin: String = text.chars().take(60).collect();
    assert!(took < LIMIT, "{took:?} for {begin:?}");
}

/// A generator that is the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound).unwrap()).unwrap()
    }
}

#[test]
fn random_tokens_of_yaml_and_pipelines_are_survived() {
    const TOKENS: &[&str] = &[
        "jobs",
        "name",
        "plan",
        "get",
        "put",
        "task",
        "config",
        "do",
        "try",
        "in_parallel",
        "steps",
        "across",
        "var",
        "values",
        "ensure",
        "on_failure",
        "passed",
        "resources",
        "type",
        "source",
        "groups",
        "var_sources",
        "dummy",
        "vars",
        "webhook_trigger",
        "triggers",
        "schedule",
        "cron",
        "every",
        "*/5 * * * *",
        "1h",
        "gate",
        "notify",
        "params",
        "platform",
        "linux",
        ":",
        ": ",
        "- ",
        "\n",
        "\n  ",
        "\n- ",
        "\n    ",
        "{",
        "}",
        "[",
        "]",
        ", ",
        "&a ",
        "*a",
        "<<",
        "\"",
        "'",
        "|",
        ">",
        "((v))",
        "((",
        "))",
        "((.:x))",
        "((s:x))",
        "!!int ",
        "!",
        "%",
        "---",
        "...",
        "? ",
        "1",
        "0x1f",
        "yes",
        "~",
        "\t",
        "é",
        "\u{0}",
        "\u{feff}",
        "#",
        "a",
        "*",
        "[0-9",
        "{a,b}",
    ];
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for _ in 0..1_500 {
        let length = 1 + dice.below(60);
        let text: String = (0..length)
            .map(|_| TOKENS[dice.below(TOKENS.len())])
            .collect();
        survives(&text);
    }
}

#[test]
fn random_bytes_and_damaged_pipelines_are_survived() {
    let pipeline = "resources:\n- &r {name: r, type: git, source: {uri: ((u))}}\njobs:\n- name: a\n  plan:\n  - get: r\n    \
        trigger: true\n  - across: [{var: v, values: [1, 2]}]\n    task: t-((.:v))\n    config: {platform: linux, run: {path: x}}\n    \
        ensure: {put: r}\n- name: b\n  webhook_trigger: payload.a == 1\n  plan: [{get: r, passed: [a]}]\n";
    assert!(load("p.yml", pipeline, &Vars::new()).is_ok());
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for round in 0..500 {
        let mut bytes = pipeline.as_bytes().to_vec();
        if round % 10 == 0 {
            bytes = (0..dice.below(200))
                .map(|_| dice.below(256) as u8)
                .collect();
        }
        for _ in 0..dice.below(6) {
            let at = dice.below(bytes.len() + 1);
            match dice.below(3) {
                0 => bytes.insert(at, b" \n:-{}[]&*!|>'\"%@`#?,x0("[dice.below(24)]),
                1 if at < bytes.len() => {
                    bytes.remove(at);
                }
                _ => bytes.truncate(at.max(1)),
            }
        }
        survives(&String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn what_is_made_to_explode_does_not() {
    let many = |part: &str, times: usize| part.repeat(times);
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for depth in 1..30 {
        let before = vec![format!("*a{}", depth - 1); 9].join(", ");
        bomb.push_str(&format!("a{depth}: &a{depth} [{before}]\n"));
    }
    let text_bomb = format!(
        "a: &a {}\nb: [{}]\n",
        many("x", 1 << 20),
        many("*a, ", 1000)
    );
    let nested_anchors = (0..90).map(|i| format!("&a{i} [")).collect::<String>();
    let keys: String = (0..60_000).map(|i| format!("k{i}: 1\n")).collect();
    let jobs: String = (0..8_000)
        .map(|i| format!("- {{name: j{i}, plan: [{{get: r, passed: ['*{i}']}}]}}\n"))
        .collect();
    let chain: String = (0..8_000)
        .map(|i| format!("- {{name: j{i}, depends_on: [j{}]}}\n", i + 1))
        .collect();
    let steps = format!(
        "jobs:\n- name: a\n  plan: {}{{get: r}}{}",
        many("[do: ", 45),
        many("]", 45)
    );
    for text in [
        many("[", 100_000),
        many("{a: ", 100_000),
        many("- ", 100_000),
        many("? ", 50_000),
        many("a:\n ", 20_000),
        many("((", 500_000),
        format!("a: {}", many("((v))", 100_000)),
        many("&a ", 10_000),
        many("!a ", 10_000),
        many("*a ", 10_000),
        many("'", 100_000),
        many("#", 1 << 20),
        many("\n", 1 << 20),
        many("a", 5 << 20),
        format!("a: |\n{}", many("  x\n", 200_000)),
        "a: &a [*a]".to_owned(),
        "a: &a {<<: *a}".to_owned(),
        nested_anchors,
        bomb,
        text_bomb,
        keys.clone(),
        format!("{keys}{keys}"),
        format!("resources: [{{name: r, type: t}}]\njobs:\n{jobs}"),
        format!("jobs:\n{chain}"),
        format!(
            "groups: [{{name: g, jobs: ['{}']}}]\njobs: [{{name: {}}}]",
            many("*a", 200),
            many("a", 200)
        ),
        format!(
            "groups: [{{name: g, jobs: ['{}']}}]\njobs: [{{name: x}}]",
            many("{a,", 200)
        ),
        steps,
    ] {
        survives(&text);
    }
}

#[test]
fn the_deepest_allowed_nesting_needs_little_stack() {
    // Half of what threads have by default.
    let thread = std::thread::Builder::new().stack_size(1 << 20);
    let deep = |levels: usize| {
        let (open, close) = ("{try: ".repeat(levels), "}".repeat(levels));
        format!(
            "resources: [{{name: r, type: t}}]\njobs: [{{name: a, plan: [{open}{{get: r}}{close}]}}]"
        )
    };
    let work = move || {
        let loaded = load("p.yml", &deep(31), &Vars::new()).expect("a pipeline");
        let json = serde_json::to_string(&loaded.config).unwrap();
        assert_eq!(
            serde_json::from_str::<Config>(&json).unwrap(),
            loaded.config
        );
        let plan = serde_json::to_string(&crate::plan::plan_of(&loaded.config.jobs[0])).unwrap();
        assert!(serde_json::from_str::<crate::plan::Plan>(&plan).is_ok());
        for levels in [32, 90, 500] {
            let faults = load("p.yml", &deep(levels), &Vars::new()).unwrap_err();
            assert!(report("p.yml", &faults).contains("nest"), "{faults:?}");
        }
    };
    thread.spawn(work).unwrap().join().unwrap();
}
