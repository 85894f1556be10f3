//! What tells one kind of server from another, as data. Add a row to `KINDS` and nothing else here.

use std::process::Command;

use super::server::Server;
use super::{kafka, nats, postgres, redis};
use crate::Result;
use crate::tools::Tool;

/// Every server that this project knows how to start.
pub(super) const KINDS: [&Kind; 4] = [&kafka::KIND, &redis::KIND, &nats::KIND, &postgres::KIND];

/// A kind of server.
#[derive(Debug)]
pub(crate) struct Kind {
    /// Also of its transport, of its folder in deploy/ and of its compose service.
    pub(super) name: &'static str,
    /// Its ports, by the words that deploy/NAME/defaults has for them; clients without encryption use the first.
    pub(super) ports: &'static [&'static str],
    /// What is told to clients: the end of a variable's name, and a URL in which `{PORT}`, `{PASSWORD}`, `{DIR}` and
    /// the other ports are replaced.
    pub(super) urls: &'static [(&'static str, &'static str)],
    /// Asks the server at an address, in its own protocol, whether it takes requests.
    pub(super) is_ready: fn(&str) -> std::io::Result<bool>,
    pub(super) native: Program,
}

/// A server as a process of this machine.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) tools: &'static [Tool],
    /// Who runs it where this process belongs to root; anybody else runs it as himself.
    pub(super) user: Option<&'static str>,
    /// Makes its data directory, `data` in its own.
    pub(super) format: fn(&Server) -> Result<()>,
    /// The process, with its own directory on its command line: by that it is told from others.
    pub(super) command: fn(&Server) -> Result<Command>,
    /// Makes what can only be made while it runs for the first time.
    pub(super) introduce: fn(&Server) -> Result<()>,
    /// The signal that ends it at once without leaving anything behind.
    pub(super) stop: &'static str,
}

impl Kind {
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        KINDS.into_iter().find(|kind| kind.name == name)
    }

    /// `INTERLINE_NAME_WORD`.
    pub(super) fn variable(&self, word: &str) -> String {
        super::variable(self.name, word)
    }
}

/// A kind is recorded by its name.
pub(super) mod by_name {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    use super::Kind;

    pub(in super::super) fn serialize<S: Serializer>(
        kind: &Kind,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(kind.name)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<&'static Kind, D::Error> {
        let name = String::deserialize(from)?;
        Kind::named(&name).ok_or_else(|| D::Error::custom(format!("unknown server {name}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root;

    /// deploy/prepare.sh replaces only what stands in `defaults`.
    #[test]
    fn every_word_has_a_default() {
        for kind in KINDS {
            let folder = root().join("deploy").join(kind.name);
            let defaults = std::fs::read_to_string(folder.join("defaults")).unwrap();
            let has = |word: &str| {
                defaults
                    .lines()
                    .any(|l| l.split_once('=').is_some_and(|(w, _)| w == word))
            };
            for port in kind.ports {
                assert!(has(port), "{} {port}", kind.name);
            }
            for file in std::fs::read_dir(folder.join("config")).unwrap() {
                let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
                let is_word = |w: &&str| {
                    !w.is_empty() && w.chars().all(|c| c.is_ascii_uppercase() || c == '_')
                };
                let words = text.split('@').filter(is_word).filter(|w| *w != "WORDS");
                for word in words {
                    assert!(has(word), "{} {word}", kind.name);
                }
            }
        }
    }
}
