//! The size budget: what is too long to be read at once is split.

use super::tree::{File, Tree};
use super::{Finding, source};
use crate::Result;

/// In lines; tests apart.
const FUNCTION_P95_BELOW: usize = 35;
const FILE_P95_BELOW: usize = 500;
const FILE_MAX: usize = 900;
/// The facade is re-exports and documentation.
const FACADE: &str = "crates/interline/src/lib.rs";
const FACADE_BELOW: usize = 300;

#[derive(Debug, Default)]
struct Measured {
    files: Vec<(usize, String)>,
    functions: Vec<(usize, String)>,
}

pub(super) fn check(tree: &Tree) -> Result<Finding> {
    let mut measured = Measured::default();
    for file in tree.files.iter().filter(|f| is_measured(f)) {
        measured.add(file);
    }
    Ok(measured.finding())
}

fn is_measured(file: &File) -> bool {
    let source = file.path.starts_with("crates/") || file.path.starts_with("xtask/");
    file.is_rust() && source && file.path.contains("/src/") && !file.is_test()
}

impl Measured {
    fn add(&mut self, file: &File) {
        let length = source::lines_before_tests(&file.code);
        self.files.push((length, file.path.clone()));
        let functions = source::functions(&file.code)
            .into_iter()
            .filter(|(line, _)| *line <= length);
        self.functions
            .extend(functions.map(|(line, lines)| (lines, format!("{}:{line}", file.path))));
    }

    fn finding(mut self) -> Finding {
        let (function_p95, file_p95) = (p95(&mut self.functions), p95(&mut self.files));
        let longest = |of: &[(usize, String)]| of.last().cloned().unwrap_or_default();
        let (function_max, file_max) = (longest(&self.functions), longest(&self.files));
        let figures = format!(
            "{} functions: p95 {function_p95} lines, longest {} ({}); {} files: p95 {file_p95}, longest {} ({})",
            self.functions.len(),
            function_max.0,
            function_max.1,
            self.files.len(),
            file_max.0,
            file_max.1
        );
        let mut breaches = Vec::new();
        if function_p95 >= FUNCTION_P95_BELOW {
            let long = self
                .functions
                .iter()
                .rev()
                .take(10)
                .map(|(n, at)| format!("\n    {n} {at}"));
            let long: String = long.collect();
            breaches.push(format!(
                "function p95 is {function_p95}, not below {FUNCTION_P95_BELOW}; the longest:{long}"
            ));
        }
        if file_p95 >= FILE_P95_BELOW {
            breaches.push(format!(
                "file p95 is {file_p95}, not below {FILE_P95_BELOW}"
            ));
        }
        let over = self
            .files
            .iter()
            .filter(|(n, path)| *n > FILE_MAX || (path == FACADE && *n >= FACADE_BELOW));
        breaches.extend(over.map(|(n, path)| format!("{path} has {n} lines")));
        Finding { figures, breaches }
    }
}

/// The value that 95 of 100 do not exceed (nearest rank). Sorts.
fn p95(values: &mut [(usize, String)]) -> usize {
    values.sort();
    let rank = (values.len() * 95).div_ceil(100);
    rank.checked_sub(1).map_or(0, |i| values[i].0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(values: impl Iterator<Item = usize>) -> Vec<(usize, String)> {
        values.map(|n| (n, String::new())).collect()
    }

    #[test]
    fn p95_is_the_nearest_rank() {
        assert_eq!(p95(&mut numbered(1..=100)), 95);
        assert_eq!(p95(&mut numbered((1..=20).rev())), 19);
        assert_eq!(p95(&mut numbered([7].into_iter())), 7);
        assert_eq!(p95(&mut []), 0);
    }

    #[test]
    fn a_file_above_the_limit_is_named() {
        let mut measured = Measured::default();
        measured.add(&File::new("crates/a/src/lib.rs", "x;\n".repeat(901)));
        for _ in 0..30 {
            measured.add(&File::new("crates/a/src/b.rs", "fn a() {}\n".to_owned()));
        }
        assert_eq!(
            measured.finding().breaches,
            ["crates/a/src/lib.rs has 901 lines"]
        );
    }

    #[test]
    fn tests_are_not_measured() {
        let text = format!(
            "fn a() {{}}\n#[cfg(test)]\nmod tests {{\nfn b() {{\n{}}}\n}}\n",
            "x;\n".repeat(2000)
        );
        let mut measured = Measured::default();
        measured.add(&File::new("crates/a/src/lib.rs", text));
        assert_eq!((measured.files[0].0, measured.functions.len()), (1, 1));
        assert!(!is_measured(&File::new(
            "crates/a/tests/it.rs",
            String::new()
        )));
        assert!(!is_measured(&File::new(
            "crates/a/src/lanes/tests.rs",
            String::new()
        )));
    }
}
