//! What is linked: no C in the default build, one provider of cryptography.

use super::Finding;
use super::tree::Tree;
use crate::{Result, exec};

/// Crates that run a C compiler, or something like it, while they are built.
const C_BUILDERS: &[&str] = &["cc", "cmake", "bindgen", "autotools"];

/// Bindings that only describe what the system has; they compile nothing.
const HARMLESS_BINDINGS: &[&str] = &[
    "linux-raw-sys",
    "js-sys",
    "web-sys",
    "windows-sys",
    "core-foundation-sys",
];

/// rustls with ring is the one provider of TLS; librdkafka brings its own OpenSSL.
const SECOND_PROVIDERS: &[&str] = &["aws-lc-rs", "aws-lc-sys", "native-tls", "openssl", "boring"];

/// Not maintained any more (RUSTSEC-2025-0012): `backon` is used.
const UNMAINTAINED: &[&str] = &["backoff"];

pub(super) fn check(tree: &Tree) -> Result<Finding> {
    let mut breaches = Vec::new();
    let all = linked(&["--workspace", "--all-features"])?;
    for name in all
        .iter()
        .filter(|n| SECOND_PROVIDERS.contains(&n.as_str()))
    {
        breaches.push(format!(
            "{name} is a second provider of TLS: `cargo tree --workspace --all-features -i {name}`"
        ));
    }
    for name in all.iter().filter(|n| UNMAINTAINED.contains(&n.as_str())) {
        breaches.push(format!("{name} is unmaintained"));
    }
    let mut figures = format!("{} crates with all features", all.len());
    if tree.has("interline") {
        let default = linked(&["--package", "interline"])?;
        figures += &format!(", {} by default", default.len());
        let with_c = default.iter().filter(|n| needs_c(n));
        breaches.extend(with_c.map(|n| {
            format!("the default build needs C through {n}: `cargo tree -p interline -i {n}`")
        }));
    }
    Ok(Finding { figures, breaches })
}

fn needs_c(name: &str) -> bool {
    C_BUILDERS.contains(&name) || (name.ends_with("-sys") && !HARMLESS_BINDINGS.contains(&name))
}

/// The names of all crates that a build of the chosen packages contains, build scripts included, tests apart.
fn linked(choice: &[&str]) -> Result<Vec<String>> {
    let mut tree = exec::cargo();
    tree.arg("tree").args(choice).args([
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    let mut names: Vec<_> = exec::output(&mut tree)?
        .lines()
        .filter_map(first_word)
        .collect();
    names.sort();
    names.dedup();
    Ok(names)
}

fn first_word(line: &str) -> Option<String> {
    line.split_whitespace().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    #[test]
    fn bindings_and_compilers_are_told_from_the_rest() {
        for name in ["rdkafka-sys", "openssl-sys", "cc", "cmake", "libz-sys"] {
            assert!(super::needs_c(name), "{name}");
        }
        for name in ["libc", "windows-sys", "linux-raw-sys", "accessory", "tokio"] {
            assert!(!super::needs_c(name), "{name}");
        }
    }
}
