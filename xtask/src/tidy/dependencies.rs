//! What is linked: no C in the default build, one driver per transport, one provider of cryptography.

use std::collections::BTreeSet;

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

/// What each transport of the facade brings, by its feature: a build with one feature has none of another row.
const BROUGHT: &[(&str, &[&str])] = &[
    ("memory", &["interline-memory"]),
    ("kafka", &["interline-kafka", "rdkafka", "rdkafka-sys"]),
    ("redis", &["interline-redis", "fred", "redis-protocol"]),
    ("nats", &["interline-nats", "async-nats", "nkeys"]),
    (
        "postgres",
        &["interline-postgres", "tokio-postgres", "deadpool-postgres"],
    ),
];

/// Two versions of it are two configurations and two sets of trusted roots.
const TLS: &str = "rustls";

/// Of what does cryptography for TLS exactly this is linked, in one version.
const PROVIDER: &str = "ring";
const OTHER_PROVIDERS: &[&str] = &[
    "aws-lc-rs",
    "aws-lc-sys",
    "boring",
    "boring-sys",
    "native-tls",
    "openssl",
    "rustls-openssl",
];

/// librdkafka has no other TLS, and interline-kafka keeps that from ending before librdkafka does.
/// Nothing else may use it.
const EXCEPTION: (&str, &[&str]) = ("openssl-sys", &["rdkafka-sys", "interline-kafka"]);

/// Not maintained any more (RUSTSEC-2025-0012): `backon` is used.
const UNMAINTAINED: &[&str] = &["backoff"];

pub(super) fn check(tree: &Tree) -> Result<Finding> {
    let all = linked(&["--workspace", "--all-features"])?;
    let mut breaches = cryptography(&all);
    breaches.extend(exception()?);
    let unmaintained = UNMAINTAINED
        .iter()
        .filter(|n| versions(&all, n).count() > 0);
    breaches.extend(unmaintained.map(|name| format!("{name} is unmaintained")));
    let mut figures = format!("{} crates with all features", all.len());
    if tree.has("interline") {
        let default = linked(&["--package", "interline"])?;
        figures += &format!(", {} by default", default.len());
        let with_c = default.iter().filter(|(name, _)| needs_c(name));
        breaches.extend(with_c.map(|(n, _)| {
            format!("the default build needs C through {n}: `cargo tree -p interline -i {n}`")
        }));
        for (feature, _) in BROUGHT {
            let alone = [
                "--package",
                "interline",
                "--no-default-features",
                "--features",
                feature,
            ];
            let alone = linked(&alone)?;
            figures += &format!(", {} with {feature}", alone.len());
            breaches.extend(foreign(feature, &alone));
        }
    }
    Ok(Finding { figures, breaches })
}

/// What a build with the transport `feature` alone has of the others.
fn foreign(feature: &str, linked: &Linked) -> Vec<String> {
    let others = BROUGHT.iter().filter(|(other, _)| *other != feature);
    let found = others
        .flat_map(|(_, brought)| *brought)
        .filter(|name| versions(linked, name).count() > 0);
    found
        .map(|name| format!("the feature {feature} of interline alone brings {name}"))
        .collect()
}

/// What stands against one rustls over one provider.
fn cryptography(linked: &Linked) -> Vec<String> {
    let one = [TLS, PROVIDER].into_iter().filter_map(|name| {
        let found: Vec<_> = versions(linked, name).collect();
        (found.len() != 1).then(|| format!("of {name} one version is linked, and not {found:?}"))
    });
    let others = OTHER_PROVIDERS
        .iter()
        .filter(|name| versions(linked, name).count() > 0)
        .map(|name| {
            format!(
                "{name} is a provider of TLS beside {PROVIDER}: `cargo tree --workspace --all-features -i {name}`"
            )
        });
    one.chain(others).collect()
}

/// Who uses the exception and may not.
fn exception() -> Result<Vec<String>> {
    let (name, allowed) = EXCEPTION;
    let users = linked(&[
        "--workspace",
        "--all-features",
        "--invert",
        name,
        "--depth",
        "1",
    ])?;
    let others = users
        .into_iter()
        .filter(|(user, _)| user != name && !allowed.contains(&&**user));
    Ok(others
        .map(|(other, _)| format!("{other} uses {name}, which is for librdkafka alone"))
        .collect())
}

fn needs_c(name: &str) -> bool {
    C_BUILDERS.contains(&name) || (name.ends_with("-sys") && !HARMLESS_BINDINGS.contains(&name))
}

/// Names and versions of crates.
type Linked = BTreeSet<(String, String)>;

fn versions<'a>(linked: &'a Linked, name: &str) -> impl Iterator<Item = &'a str> {
    linked
        .iter()
        .filter(move |(linked, _)| linked == name)
        .map(|(_, version)| version.as_str())
}

/// All crates that a build of the chosen packages contains, build scripts included, tests apart.
fn linked(choice: &[&str]) -> Result<Linked> {
    let mut tree = exec::cargo();
    tree.arg("tree").args(choice).args([
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    Ok(parse(&exec::output(&mut tree)?))
}

fn parse(lines: &str) -> Linked {
    let parts = lines.lines().filter_map(|line| {
        let mut words = line.split_whitespace().map(str::to_owned);
        Some((words.next()?, words.next()?))
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_and_compilers_are_told_from_the_rest() {
        for name in ["rdkafka-sys", "openssl-sys", "cc", "cmake", "libz-sys"] {
            assert!(needs_c(name), "{name}");
        }
        for name in ["libc", "windows-sys", "linux-raw-sys", "accessory", "tokio"] {
            assert!(!needs_c(name), "{name}");
        }
    }

    #[test]
    fn another_transports_driver_is_found() {
        let linked =
            parse("interline v0.1.0 (/x)\ninterline-nats v0.1.0 (/y)\nasync-nats v0.51.0\n");
        assert_eq!(foreign("nats", &linked), Vec::<String>::new());
        let found = foreign("redis", &linked);
        assert_eq!(found.len(), 2);
        assert!(found[1].ends_with("alone brings async-nats"), "{found:?}");
    }

    #[test]
    fn one_rustls_over_one_provider() {
        let good = "rustls v0.23.4\nring v0.17.1\nrustls v0.23.4 (*)\nopenssl-sys v0.9.1\n";
        assert_eq!(cryptography(&parse(good)), Vec::<String>::new());
        let bad = "rustls v0.23.4\nrustls v0.22.9\naws-lc-rs v1.1.0\n";
        let found = cryptography(&parse(bad));
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains(r#"["v0.22.9", "v0.23.4"]"#), "{found:?}");
        assert!(found[1].contains("ring"), "{found:?}");
        assert!(found[2].contains("aws-lc-rs"), "{found:?}");
    }
}
