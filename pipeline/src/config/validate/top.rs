//! Groups, resources, their types and the page's look.

use super::{Names, Report, identifier_of};
use std::collections::{BTreeMap, BTreeSet};

/// Checks `groups`.
pub fn groups(report: &mut Report<'_>) {
    report.group = "groups";
    let config = report.config;
    let mut grouped = BTreeSet::new();
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for (i, group) in config.groups.iter().enumerate() {
        let path = identifier_of("groups", i, &group.name);
        report.identifier(&group.name, &path, false);
        *names.entry(&group.name).or_default() += 1;
        for text in &group.jobs {
            let Ok(matching) = report.index.matching(text) else {
                let message = format!(
                    "invalid glob expression '{text}' for group '{}'",
                    group.name
                );
                report.fault(&path, message);
                continue;
            };
            if matching.is_empty() {
                let message = format!("no jobs match '{text}' for group '{}'", group.name);
                report.fault(&path, message);
            }
            grouped.extend(matching.iter().copied());
        }
        for resource in &group.resources {
            if !report.index.has_resource(resource) {
                let message = format!("group '{}' has unknown resource '{resource}'", group.name);
                report.fault(&path, message);
            }
        }
    }
    for (name, count) in names {
        if count > 1 {
            let message =
                format!("group '{name}' appears {count} times. Duplicate names are not allowed.");
            report.fault(&format!("groups.{name}"), message);
        }
    }
    if config.groups.is_empty() {
        return;
    }
    for job in &config.jobs {
        if !grouped.contains(job.name.as_str()) {
            let message = format!("job '{}' belongs to no group", job.name);
            report.fault(&format!("jobs.{}", job.name), message);
        }
    }
}

/// Checks `resources`.
pub fn resources(report: &mut Report<'_>) {
    report.group = "resources";
    let config = report.config;
    let mut names = Names::default();
    for (i, resource) in config.resources.iter().enumerate() {
        let path = identifier_of("resources", i, &resource.name);
        report.identifier(&resource.name, &path, false);
        names.check(report, &resource.name, format!("resources[{i}]"));
        needs(report, &path, "name", &resource.name);
        needs(report, &path, "type", &resource.type_name);
    }
    let used = report.index.used();
    for (i, resource) in config.resources.iter().enumerate() {
        if !used.contains(resource.name.as_str()) {
            let path = identifier_of("resources", i, &resource.name);
            report.fault(&path, format!("resource '{}' is not used", resource.name));
        }
    }
}

/// Checks `resource_types` and `prototypes`, which share one namespace.
pub fn types(report: &mut Report<'_>) {
    let config = report.config;
    let mut names = Names::default();
    for (group, section, types) in [
        ("resource types", "resource_types", &config.resource_types),
        ("prototypes", "prototypes", &config.prototypes),
    ] {
        report.group = group;
        for (i, own) in types.iter().enumerate() {
            let path = identifier_of(section, i, &own.name);
            report.identifier(&own.name, &path, false);
            names.check(report, &own.name, format!("{section}[{i}]"));
            needs(report, &path, "name", &own.name);
            needs(report, &path, "type", &own.type_name);
        }
    }
}

fn needs(report: &mut Report<'_>, path: &str, what: &str, value: &str) {
    if value.is_empty() {
        report.fault(path, format!("{path} has no {what}"));
    }
}

/// Checks `display`.
pub fn display(report: &mut Report<'_>) {
    report.group = "display config";
    let Some(display) = &report.config.display else {
        return;
    };
    let url = &display.background_image;
    match scheme(url) {
        Err(()) => report.fault(
            "display",
            format!("background_image is not a valid URL: {url}"),
        ),
        Ok("" | "http" | "https") => {}
        Ok(_) => report.fault(
            "display",
            "background_image scheme must be either http, https or relative".to_owned(),
        ),
    }
}

/// The scheme of a URL in lower case, empty for a relative one; the faults are those Go finds.
fn scheme(url: &str) -> Result<&str, ()> {
    if url.chars().any(|c| c.is_ascii_control()) || has_bad_escape(url) {
        return Err(());
    }
    let end = url
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')))
        .unwrap_or(url.len());
    let (name, rest) = url.split_at(end);
    let is_scheme = name.starts_with(|c: char| c.is_ascii_alphabetic());
    if rest.starts_with(':') {
        return match (name, is_scheme) {
            ("", _) => Err(()),
            (name, true) => Ok(match name.to_ascii_lowercase().as_str() {
                "http" => "http",
                "https" => "https",
                _ => name,
            }),
            (_, false) => Err(()),
        };
    }
    // A first segment with a colon would be read as a scheme.
    let path = url.split(['?', '#']).next().unwrap_or_default();
    match path.split('/').next() {
        Some(first) if first.contains(':') => Err(()),
        _ => Ok(""),
    }
}

fn has_bad_escape(url: &str) -> bool {
    url.split('%').skip(1).any(|after| {
        let digits = after.bytes().take(2);
        digits.filter(u8::is_ascii_hexdigit).count() < 2
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_are_found_as_go_finds_them() {
        for (url, told) in [
            ("", Ok("")),
            ("https://a/b.png", Ok("https")),
            ("HTTP://a", Ok("http")),
            ("/a/b.png", Ok("")),
            ("a/b:c.png", Ok("")),
            ("data:image/png", Ok("data")),
            ("://example.com", Err(())),
            ("1a:b", Err(())),
            ("a b:c", Err(())),
            ("http://a/%zz", Err(())),
            ("http://a/\n", Err(())),
        ] {
            assert_eq!(scheme(url), told, "{url}");
        }
    }
}
