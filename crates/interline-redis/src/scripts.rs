//! The scripts that run at the server, each in one step.

use std::sync::LazyLock;

use bytes::Bytes;
use fred::types::Value;

/// A script and the name by which a server that has it knows it.
pub(crate) struct Script {
    text: &'static str,
    sha: LazyLock<Bytes>,
}

macro_rules! scripts {
    ($($name:ident = $($file:literal)+, $what:literal)*) => {$(
        #[doc = $what]
        pub(crate) static $name: Script = Script {
            text: concat!($(include_str!(concat!("lua/", $file, ".lua"))),+),
            sha: LazyLock::new(|| fred::util::sha1_hash($name.text).into()),
        };
    )*};
}
scripts! {
    CREATE = "create", "Makes a topic, or tells how it is."
    DELETE = "delete", "Deletes a topic."
    PUBLISH = "publish", "Stores a batch."
    STAND = "stand", "Tells how partitions stand against places in them."
    BEGIN = "group" "begin", "Makes a group known."
    LOOK = "group" "look", "Shows that a member lives, and tells how its group stands."
    CLAIM = "group" "claim", "Takes partitions."
    REVOKE = "group" "revoke", "Notes that partitions will be released."
    COMMIT = "group" "commit", "Stores checkpoints."
    FREE = "group" "free", "Frees partitions whose end was lost."
    LEAVE = "group" "leave", "Removes a member."
    SURVEY = "group" "survey", "Tells how a group stands without being a member."
    RESET = "group" "reset", "Moves a group that nobody is in."
    TRIM = "trim", "Removes what is old and settled."
    INBOX_CLAIM = "inbox_claim", "Claims an event for a group."
    INBOX_RELEASE = "inbox_release", "Gives a claim back."
    DISBAND = "group" "disband", "Deletes a group that nobody is in."
}

impl Script {
    pub(crate) fn text(&self) -> &'static str {
        self.text
    }

    /// The arguments of a call that precede those of the script: its name and the keys.
    pub(crate) fn head(&self, keys: &[Bytes]) -> Vec<Value> {
        let mut head = Vec::with_capacity(keys.len() + 2);
        head.push(Value::Bytes(Bytes::clone(&self.sha)));
        head.push(Value::Integer(
            i64::try_from(keys.len()).unwrap_or(i64::MAX),
        ));
        head.extend(keys.iter().cloned().map(Value::Bytes));
        head
    }
}
