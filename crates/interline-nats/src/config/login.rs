//! Who the client is.

use std::fmt;
use std::path::Path;

use async_nats::{Auth, AuthError};
use interline_core::Result;
use interline_transport::settings::{Secret, config};
use nkeys::KeyPair;

/// Credentials, read and checked.
#[derive(Clone)]
pub(crate) enum Login {
    /// None.
    Anonymous,
    /// User and password.
    Password(String, Secret),
    /// A token.
    Token(Secret),
    /// A key that signs the server's challenge, with the JWT that vouches for it if there is one.
    Key { seed: Secret, jwt: Option<Secret> },
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Password(..) => "Password",
            Self::Token(_) => "Token",
            Self::Key { .. } => "Key",
        })
    }
}

impl Login {
    /// Whether logging in shows the secret to the network.
    pub(super) fn shows_secret(&self) -> bool {
        matches!(self, Self::Password(..) | Self::Token(_))
    }

    /// Reads a file of credentials: a JWT and a seed between lines of dashes.
    pub(super) fn from_credentials(file: &Path) -> Result<Self> {
        let text = read("credentials", file)?;
        let mut parts = text
            .split("-----BEGIN ")
            .skip(1)
            .filter_map(|part| part.lines().nth(1))
            .map(str::trim);
        let (Some(jwt), Some(seed)) = (parts.next(), parts.next()) else {
            return Err(malformed("credentials", file));
        };
        Self::key("credentials", file, seed, Some(jwt.into()))
    }

    /// Reads a file that holds a seed.
    pub(super) fn from_seed(file: &Path) -> Result<Self> {
        let text = read("nkey", file)?;
        let mut lines = text.lines().map(str::trim);
        let seed = lines.find(|line| line.starts_with("SU"));
        let seed = seed.ok_or_else(|| malformed("nkey", file))?;
        Self::key("nkey", file, seed, None)
    }

    fn key(setting: &str, file: &Path, seed: &str, jwt: Option<Secret>) -> Result<Self> {
        // The library's error may show the seed.
        KeyPair::from_seed(seed).map_err(|_| malformed(setting, file))?;
        Ok(Self::Key {
            seed: seed.into(),
            jwt,
        })
    }

    /// What is answered to the server's challenge.
    pub(crate) fn answer(&self, challenge: &[u8]) -> Result<Auth, AuthError> {
        let mut auth = Auth::new();
        match self {
            Self::Anonymous => {}
            Self::Password(user, password) => {
                auth.username = Some(user.clone());
                auth.password = Some(password.reveal().to_owned());
            }
            Self::Token(token) => auth.token = Some(token.reveal().to_owned()),
            Self::Key { seed, jwt } => {
                let refused = |_| AuthError::new("the key cannot sign");
                let pair = KeyPair::from_seed(seed.reveal()).map_err(refused)?;
                auth.signature = Some(pair.sign(challenge).map_err(refused)?);
                match jwt {
                    Some(jwt) => auth.jwt = Some(jwt.reveal().to_owned()),
                    None => auth.nkey = Some(pair.public_key()),
                }
            }
        }
        Ok(auth)
    }
}

fn read(setting: &str, file: &Path) -> Result<String> {
    std::fs::read_to_string(file).map_err(|cause| {
        config(
            format!("the file {file:?} of `{setting}` cannot be read"),
            "check its path and permissions",
        )
        .because(cause)
    })
}

fn malformed(setting: &str, file: &Path) -> interline_core::Error {
    config(
        format!("the file {file:?} of `{setting}` does not hold what it should"),
        "write it with `nsc generate creds` or `nk -gen user`",
    )
}
