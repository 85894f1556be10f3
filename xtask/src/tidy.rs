//! `cargo xtask tidy`: what the project promises about its own sources. Most of it is a test of this crate, too.

mod arrows;
mod dependencies;
mod docs;
mod size;
mod source;
mod text;
mod tree;

use tree::Tree;

use crate::Result;

/// What a check found: figures for its line, and what breaks a rule.
#[derive(Debug, Default)]
struct Finding {
    figures: String,
    breaches: Vec<String>,
}

type Check = fn(&Tree) -> Result<Finding>;

/// What reads sources alone.
const CHECKS: &[(&str, Check)] = &[
    ("arrows", arrows::check),
    ("size", size::check),
    ("dependencies", dependencies::check),
    ("docs", docs::check),
    ("text", text::check),
];

/// What builds, too.
const BUILDING: &[(&str, Check)] = &[("table", docs::check_table)];

/// The verb. Prints a line per check and fails if any rule is broken.
pub(crate) fn run() -> Result<()> {
    all_hold(&[CHECKS, BUILDING].concat())
}

fn all_hold(checks: &[(&str, Check)]) -> Result<()> {
    let tree = Tree::read()?;
    let mut broken = 0;
    for (name, check) in checks {
        let finding = check(&tree)?;
        let state = if finding.breaches.is_empty() {
            "ok"
        } else {
            "BROKEN"
        };
        println!("tidy {name:<13} {state:<7} {}", finding.figures);
        for breach in &finding.breaches {
            println!("  {breach}");
        }
        broken += finding.breaches.len();
    }
    if broken == 0 {
        Ok(())
    } else {
        Err(format!("{broken} rules broken").into())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_is_tidy() {
        super::all_hold(super::CHECKS).unwrap();
    }
}
