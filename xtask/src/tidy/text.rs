//! What must stand nowhere in the sources.

use super::tree::{File, Tree};
use super::{Finding, source};
use crate::Result;

/// Unfinished or unattended code, wherever it stands.
const NOWHERE: &[(&str, &str)] = &[
    ("todo!", "unfinished"),
    ("unimplemented!", "unfinished"),
    ("dbg!", "left from debugging"),
    (
        "#[ignore",
        "a test that needs a server is run by `cargo xtask it`, never ignored",
    ),
];

/// The one module that may contain `unsafe`: what rdkafka does not expose.
const UNSAFE_IN: &str = "crates/interline-kafka/src/ffi/";

/// First folders of paths that exist on one machine only.
const MACHINE_FOLDERS: &[&str] = &["work", "root", "home", "Users"];

pub(super) fn check(tree: &Tree) -> Result<Finding> {
    let mut breaches: Vec<_> = tree.files.iter().flat_map(file).collect();
    breaches.extend(
        tree.files
            .iter()
            .filter(|f| has_word(&f.code, "unsafe") && !f.path.starts_with(UNSAFE_IN))
            .map(|f| format!("{}: unsafe outside the one FFI module", f.path)),
    );
    Ok(Finding {
        figures: format!("{} files", tree.files.len()),
        breaches,
    })
}

fn file(file: &File) -> Vec<String> {
    let mut breaches = Vec::new();
    let first_of_tests = match file.is_test() || file.path.contains("testkit") {
        true => 0,
        false => source::lines_before_tests(&file.code),
    };
    for (index, line) in file.code.lines().enumerate() {
        let mut breach = |why: &str| breaches.push(format!("{}:{}: {why}", file.path, index + 1));
        if index >= first_of_tests && has_word(line, "sleep(") {
            breach("tests wait on progress with a deadline, they do not sleep");
        }
        for (word, why) in NOWHERE.iter().filter(|(word, _)| has_word(line, word)) {
            breach(&format!("{word} ({why})"));
        }
    }
    let with_path = file
        .text
        .lines()
        .enumerate()
        .filter(|(_, line)| has_machine_path(line));
    breaches.extend(
        with_path.map(|(index, _)| format!("{}:{}: a path of one machine", file.path, index + 1)),
    );
    breaches
}

/// `word` not as the end of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    let starts_alone = |at: usize| {
        line[..at]
            .chars()
            .next_back()
            .is_none_or(|c| !source::is_word(c))
    };
    let ends_alone = |at: usize| {
        let last = word.chars().next_back().is_some_and(source::is_word);
        !last
            || line[at + word.len()..]
                .chars()
                .next()
                .is_none_or(|c| !source::is_word(c))
    };
    line.match_indices(word)
        .any(|(at, _)| starts_alone(at) && ends_alone(at))
}

fn has_machine_path(line: &str) -> bool {
    let absolute = |at: usize| {
        line[..at]
            .chars()
            .next_back()
            .is_none_or(|c| !(source::is_word(c) || "./~}".contains(c)))
    };
    let found = |folder: &str| {
        line.match_indices(&format!("/{folder}/"))
            .any(|(at, _)| absolute(at))
    };
    MACHINE_FOLDERS.iter().any(|folder| found(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaches(path: &str, text: &str) -> usize {
        file(&File::new(path, text.to_owned())).len()
    }

    #[test]
    fn tests_must_not_sleep_but_libraries_may() {
        let code = "fn f() { tokio::time::sleep(d).await; }\n";
        assert_eq!(breaches("crates/a/tests/it.rs", code), 1);
        assert_eq!(breaches("crates/interline-testkit/src/lib.rs", code), 1);
        assert_eq!(breaches("crates/a/src/lib.rs", code), 0);
        assert_eq!(
            breaches(
                "crates/a/src/lib.rs",
                &format!("#[cfg(test)]\nmod tests {{\n{code}}}\n")
            ),
            1
        );
        assert_eq!(
            breaches(
                "crates/a/tests/it.rs",
                "// sleep(1)\nlet a = \"sleep(\"; no_sleep(1);\n"
            ),
            0
        );
    }

    #[test]
    fn unfinished_code_is_found_outside_of_text_only() {
        assert_eq!(breaches("crates/a/src/lib.rs", "fn f() { todo!() }\n"), 1);
        assert_eq!(
            breaches("crates/a/src/lib.rs", "// todo!()\nlet a = \"todo!()\";\n"),
            0
        );
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        let path = ["", "home", "ada", "x"].join("/");
        assert!(has_machine_path(&format!("see {path}")));
        assert!(!has_machine_path(&format!("see https://example.org{path}")));
        assert!(!has_machine_path(&format!("${{prefix}}{path}")));
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("unsafe { x }", "unsafe"));
        assert!(!has_word("unsafe_code = 1", "unsafe"));
    }
}
