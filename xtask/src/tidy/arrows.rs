//! Which crate may know which: arrows point downward only.

use super::Finding;
use super::tree::{Package, Tree};
use crate::Result;

const CORE: &[&str] = &["interline-core"];
const TRANSPORT: &[&str] = &["interline-core", "interline-transport"];

/// Every crate and what it may depend on among the project's own. Tests may use more.
const ALLOWED: &[(&str, &[&str])] = &[
    ("interline-core", &[]),
    ("interline-macros", &[]),
    ("interline-transport", &["interline-core", "interline-json"]),
    ("interline-json", CORE),
    ("interline-avro", CORE),
    ("interline-protobuf", CORE),
    ("interline-reliability", CORE),
    ("interline-observability", CORE),
    ("interline-memory", TRANSPORT),
    ("interline-kafka", TRANSPORT),
    ("interline-redis", TRANSPORT),
    ("interline-nats", TRANSPORT),
    ("interline-postgres", TRANSPORT),
    (
        "interline-bus",
        &["interline-core", "interline-reliability"],
    ),
    (
        "interline-testkit",
        &["interline-core", "interline-bus", "interline-reliability"],
    ),
    ("interline", &["*"]),
    ("interline-cli", &["interline"]),
    ("interline-bench", &["*"]),
    ("xtask", &[]),
];

/// Above everything: nothing depends on them.
const TOP: &[&str] = &["interline-cli", "interline-bench", "xtask"];

/// What the core does without, so that all else can be built on it: a runtime, codecs, drivers.
const ABSENT_FROM_CORE: &[&str] = &[
    "tokio",
    "serde_json",
    "rdkafka",
    "fred",
    "async-nats",
    "tokio-postgres",
    "prost",
];

pub(super) fn check(tree: &Tree) -> Result<Finding> {
    let mut breaches = Vec::new();
    let mut arrows = 0;
    for package in tree
        .packages
        .iter()
        .filter(|p| p.name == "xtask" || p.folder().starts_with("crates/"))
    {
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == package.name) else {
            breaches.push(format!(
                "{} is not in the table of xtask/src/tidy/arrows.rs",
                package.name
            ));
            continue;
        };
        let used: Vec<_> = uses(package).collect();
        arrows += used.iter().filter(|name| is_ours(name)).count();
        breaches.extend(forbidden(&package.name, allowed, &used));
    }
    Ok(Finding {
        figures: format!("{} crates, {arrows} arrows", tree.packages.len()),
        breaches,
    })
}

fn uses(package: &Package) -> impl Iterator<Item = &str> {
    let built_in = package
        .dependencies
        .iter()
        .filter(|d| d.kind.as_deref() != Some("dev"));
    built_in.map(|d| d.name.as_str())
}

fn is_ours(name: &str) -> bool {
    ALLOWED.iter().any(|(ours, _)| *ours == name)
}

fn forbidden(package: &str, allowed: &[&str], used: &[&str]) -> Vec<String> {
    let breaks = |name: &&&str| {
        let upward = is_ours(name)
            && (TOP.contains(name) || !(allowed.contains(&"*") || allowed.contains(name)));
        upward || (package == "interline-core" && ABSENT_FROM_CORE.contains(name))
    };
    used.iter()
        .filter(breaks)
        .map(|name| format!("{package} must not depend on {name}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrow_upward_is_found() {
        let found = forbidden(
            "interline-memory",
            TRANSPORT,
            &["interline-core", "interline-bus", "tokio"],
        );
        assert_eq!(found, ["interline-memory must not depend on interline-bus"]);
    }

    #[test]
    fn the_facade_may_know_all_but_what_stands_above_it() {
        assert!(forbidden("interline", &["*"], &["interline-kafka", "interline-bus"]).is_empty());
        assert_eq!(forbidden("interline", &["*"], &["interline-cli"]).len(), 1);
    }

    #[test]
    fn the_core_has_no_runtime() {
        assert_eq!(
            forbidden("interline-core", &[], &["bytes", "tokio"]),
            ["interline-core must not depend on tokio"]
        );
    }
}
