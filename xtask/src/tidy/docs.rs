//! Documents in step with the code.

use super::Finding;
use super::tree::{Package, Tree};
use crate::{Result, exec};

const GUARANTEES: &str = "docs/guarantees.md";
/// The table between these lines is what `cargo run -p interline --all-features --example capabilities` prints.
const TABLE: (&str, &str) = ("<!-- capabilities -->\n", "<!-- /capabilities -->");
const GENERATOR: &str = "crates/interline/examples/capabilities.rs";

/// What is promised stands below this heading.
const PROMISES: &str = "\n## On every transport\n";
/// How paragraphs begin that promise nothing: what the transport cannot do, and which servers were tried.
const FACTS: [&str; 2] = ["**It cannot**", "**Servers**"];

pub(super) fn check(tree: &Tree) -> Result<Finding> {
    let crates: Vec<_> = tree
        .packages
        .iter()
        .filter(|p| p.folder().starts_with("crates/"))
        .collect();
    let mut breaches: Vec<_> = crates.iter().flat_map(|p| package(tree, p)).collect();
    let mut named = Vec::new();
    if let Some(guarantees) = tree.file(GUARANTEES) {
        named = named_tests(&guarantees.text);
        let absent = named.iter().filter(|name| !exists(tree, name));
        breaches.extend(
            absent.map(|name| format!("{GUARANTEES} names the test {name}, which does not exist")),
        );
        breaches.extend(
            unproven(&guarantees.text)
                .map(|promise| format!("{GUARANTEES} names no test for: {promise}")),
        );
    }
    Ok(Finding {
        figures: format!(
            "{} crates, {} tests named in {GUARANTEES}",
            crates.len(),
            named.len()
        ),
        breaches,
    })
}

/// The generated table, which takes a build of every transport.
pub(super) fn check_table(tree: &Tree) -> Result<Finding> {
    let guarantees = tree.file(GUARANTEES);
    let breach = guarantees.map(|file| table(tree, &file.text)).transpose()?;
    Ok(Finding {
        figures: format!("the capabilities in {GUARANTEES}"),
        breaches: breach.flatten().into_iter().collect(),
    })
}

/// What every crate of the workspace has.
fn package(tree: &Tree, package: &Package) -> Vec<String> {
    let folder = package.folder();
    let contains = |path: &str, text: &str| {
        tree.file(&format!("{folder}/{path}"))
            .is_some_and(|f| f.text.contains(text))
    };
    let readme_as_docs = r#"#![doc = include_str!("../README.md")]"#;
    let rules = [
        (
            // The crate with the FFI module cannot inherit a lint that forbids it.
            contains("Cargo.toml", "[lints]\nworkspace = true")
                || contains("Cargo.toml", "[lints.rust]\nunsafe_code = \"deny\"")
                    && folder.ends_with("interline-kafka"),
            "Cargo.toml lacks `[lints] workspace = true`",
        ),
        (
            package.description.is_some(),
            "Cargo.toml lacks a description",
        ),
        (
            tree.file(&format!("{folder}/README.md")).is_some(),
            "README.md is missing",
        ),
        (
            contains("src/lib.rs", readme_as_docs) || contains("src/main.rs", readme_as_docs),
            "README.md is not the crate's documentation (`#![doc = include_str!(..)]`)",
        ),
    ];
    rules
        .into_iter()
        .filter(|(kept, _)| !kept)
        .map(|(_, rule)| format!("{folder}: {rule}"))
        .collect()
}

/// The names in backticks that follow `Test:` or `Tests:` on the same line.
fn named_tests(text: &str) -> Vec<String> {
    let after = text
        .lines()
        .filter_map(|l| l.split_once("Test: ").or_else(|| l.split_once("Tests: ")));
    let quoted = after.flat_map(|(_, list)| list.split('`').skip(1).step_by(2));
    quoted
        .map(|name| name.rsplit("::").next().unwrap_or(name).to_owned())
        .collect()
}

/// The beginnings of paragraphs that promise something and name no test.
fn unproven(text: &str) -> impl Iterator<Item = &str> {
    let promises = text.split_once(PROMISES).map_or("", |(_, rest)| rest);
    let unproven = |p: &&str| {
        let is_fact = p.starts_with('#') || FACTS.iter().any(|fact| p.starts_with(fact));
        !p.is_empty() && !is_fact && !p.contains("Test:")
    };
    let paragraphs = promises.split("\n\n").map(str::trim).filter(unproven);
    paragraphs.map(|p| p.lines().next().unwrap_or(p))
}

fn exists(tree: &Tree, test: &str) -> bool {
    let opening = [format!("fn {test}("), format!("fn {test}<")];
    tree.files
        .iter()
        .any(|f| opening.iter().any(|o| f.code.contains(o)))
}

fn table(tree: &Tree, text: &str) -> Result<Option<String>> {
    if tree.file(GENERATOR).is_none() {
        return Ok(None);
    }
    let Some(written) = between(text) else {
        return Ok(Some(format!(
            "{GUARANTEES} lacks the lines {} .. {}",
            TABLE.0.trim(),
            TABLE.1
        )));
    };
    let mut generator = exec::cargo();
    generator.args([
        "run",
        "--quiet",
        "-p",
        "interline",
        "--all-features",
        "--example",
        "capabilities",
    ]);
    let generated = exec::output(&mut generator)?;
    let differs = generated.trim() != written.trim();
    Ok(differs.then(|| {
        format!(
            "the table in {GUARANTEES} is not `{}`:\n{generated}",
            exec::line(&generator)
        )
    }))
}

fn between(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once(TABLE.0)?;
    rest.split_once(TABLE.1).map(|(table, _)| table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::File;

    #[test]
    fn tests_are_named_in_backticks_after_the_mark() {
        let text = "`not_me` is promised. Test: `drain_waits`, `suite::crash_replays`\nTests: `a` and `b`.\n";
        assert_eq!(
            named_tests(text),
            ["drain_waits", "crash_replays", "a", "b"]
        );
    }

    #[test]
    fn a_named_test_must_be_a_function_and_not_a_word_in_a_comment() {
        let file = File::new(
            "crates/x/tests/a.rs",
            "async fn real<T>() {}\n// fn gone()\n".to_owned(),
        );
        let tree = Tree {
            files: vec![file],
            packages: Vec::new(),
        };
        assert!(exists(&tree, "real"));
        assert!(!exists(&tree, "gone"));
    }

    #[test]
    fn a_promise_without_a_test_is_found() {
        let text = "# Guarantees\n\nWords.\n\n## On every transport\n\n**Order.** It holds\n(Test: `order`).\n\n\
                    **Speed.** It is\nhigh.\n\n**It cannot** fly.\n";
        assert_eq!(unproven(text).collect::<Vec<_>>(), ["**Speed.** It is"]);
    }

    #[test]
    fn the_table_stands_between_its_marks() {
        assert_eq!(
            between("x\n<!-- capabilities -->\n| a |\n<!-- /capabilities -->\n"),
            Some("| a |\n")
        );
        assert_eq!(between("| a |"), None);
    }
}
