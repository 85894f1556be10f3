//! Bugs planted on purpose, to prove that the conformance suite catches them.
//!
//! Code at the place of a known mistake asks [`is`] whether it should make it. Without the
//! feature `planted`, which only tests turn on, the answer is `false` at compile time.

/// Whether the bug `name` is planted in this process (environment variable `INTERLINE_PLANTED`).
#[cfg(feature = "planted")]
#[must_use]
pub fn is(name: &str) -> bool {
    use std::sync::LazyLock;
    static PLANTED: LazyLock<Option<String>> =
        LazyLock::new(|| std::env::var("INTERLINE_PLANTED").ok());
    PLANTED.as_deref() == Some(name)
}

/// Whether the bug `name` is planted in this process: never, in this build.
#[cfg(not(feature = "planted"))]
#[must_use]
pub const fn is(_name: &str) -> bool {
    false
}
