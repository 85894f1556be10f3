//! The schema that holds everything of a namespace.

use std::fmt;

use interline_core::{Result, Topic};
use interline_transport::settings::config;

/// The schema without a namespace; with one it is this, an underscore and the namespace.
const NAME: &str = "interline";

/// The longest name that PostgreSQL does not cut, in bytes.
const MAX_NAME: usize = 63;

/// A schema's name, checked and quoted.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Schema {
    name: String,
}

impl Schema {
    pub(crate) fn new(namespace: Option<&str>) -> Result<Self> {
        let Some(namespace) = namespace else {
            return Ok(Self {
                name: NAME.to_owned(),
            });
        };
        // The same alphabet as a topic's: no quote, no percent sign, no brace.
        let name = format!("{NAME}_{}", Topic::system(namespace)?);
        if name.len() > MAX_NAME {
            return Err(config(
                format!("the schema `{name}` would be longer than {MAX_NAME} bytes"),
                "choose a shorter namespace",
            ));
        }
        Ok(Self { name })
    }

    /// The name as it is, which is also that of the channel.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The statement with its `{s}` replaced by the quoted name.
    pub(crate) fn sql(&self, statement: &str) -> String {
        statement.replace("{s}", &self.to_string())
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.name)
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_a_schema_of_its_own() {
        let name = |namespace: Option<&str>| Schema::new(namespace).map(|s| s.to_string());
        assert_eq!(name(None).unwrap(), "\"interline\"");
        assert_eq!(name(Some("eu.Shop-1")).unwrap(), "\"interline_eu.Shop-1\"");
        for namespace in ["", "a\"b", "a'b", "a b", "{s}", "é", "a%s"] {
            assert!(name(Some(namespace)).is_err(), "{namespace}");
        }
        assert!(name(Some(&"x".repeat(53))).is_ok());
        assert!(name(Some(&"x".repeat(54))).is_err());
    }
}
