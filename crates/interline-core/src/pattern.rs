//! Patterns over dot-separated names.

use std::fmt;
use std::str::FromStr;

use crate::{Error, ErrorKind, Result};

/// A pattern over dot-separated names: `*` stands for one token, a trailing `**` for one or more,
/// and a lone `*` for every name.
///
/// ```
/// use interline_core::Pattern;
///
/// let pattern = Pattern::new("public.*.create")?;
/// assert!(pattern.matches("public.users.create"));
/// assert!(!pattern.matches("public.users.eu.create"));
/// assert!(Pattern::new("shop.**")?.matches("shop.order.placed"));
/// assert!(!Pattern::new("shop.**")?.matches("shop"));
/// assert!(Pattern::ANY.matches("anything.at.all"));
/// # Ok::<(), interline_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern(Shape);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Shape {
    Any,
    Exact(Box<str>),
    Tokens { head: Box<[Token]>, tail: bool },
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Token {
    One,
    Text(Box<str>),
}

impl Pattern {
    /// The pattern `*`, which matches every name.
    pub const ANY: Self = Self(Shape::Any);

    /// Reads a pattern.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for an empty token, a `**` that is not the last token, or a star
    /// beside other characters of a token.
    pub fn new(text: impl AsRef<str>) -> Result<Self> {
        let text = text.as_ref();
        if text == "*" {
            return Ok(Self::ANY);
        }
        let (body, tail) = match text.strip_suffix("**") {
            Some("") => return Ok(Self::ANY),
            Some(body) => match body.strip_suffix('.') {
                Some(body) => (body, true),
                None => return Err(invalid(text)),
            },
            None => (text, false),
        };
        if !tail && !text.contains('*') && body.split('.').all(|token| !token.is_empty()) {
            return Ok(Self(Shape::Exact(body.into())));
        }
        let head = body
            .split('.')
            .map(|token| match token {
                "*" => Ok(Token::One),
                "" => Err(invalid(text)),
                token if token.contains('*') => Err(invalid(text)),
                token => Ok(Token::Text(token.into())),
            })
            .collect::<Result<_>>()?;
        Ok(Self(Shape::Tokens { head, tail }))
    }

    /// A pattern that matches `name` alone, whatever characters are in it.
    #[must_use]
    pub fn exact(name: &str) -> Self {
        Self(Shape::Exact(name.into()))
    }

    /// Whether the whole of `name` fits.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match &self.0 {
            Shape::Any => true,
            Shape::Exact(exact) => **exact == *name,
            Shape::Tokens { head, tail } => {
                let mut tokens = name.split('.');
                let fits = head.iter().all(|want| match (want, tokens.next()) {
                    (Token::One, Some(_)) => true,
                    (Token::Text(text), Some(token)) => **text == *token,
                    (_, None) => false,
                });
                fits && (tokens.next().is_some() == *tail)
            }
        }
    }

    /// The one name that fits, if the pattern holds no star.
    #[must_use]
    pub fn as_exact(&self) -> Option<&str> {
        match &self.0 {
            Shape::Exact(name) => Some(name),
            Shape::Any | Shape::Tokens { .. } => None,
        }
    }
}

fn invalid(text: &str) -> Error {
    let shown: String = text.chars().take(64).collect();
    Error::new(
        ErrorKind::Invalid,
        "pattern",
        format!("{shown:?} is not a legal pattern"),
    )
    .remedy("use tokens joined by dots, `*` for one token, `**` at the end for one or more")
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Shape::Any => f.write_str("*"),
            Shape::Exact(name) => f.write_str(name),
            Shape::Tokens { head, tail } => {
                for (i, token) in head.iter().enumerate() {
                    let dot = if i == 0 { "" } else { "." };
                    match token {
                        Token::One => write!(f, "{dot}*")?,
                        Token::Text(text) => write!(f, "{dot}{text}")?,
                    }
                }
                f.write_str(if *tail { ".**" } else { "" })
            }
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}
