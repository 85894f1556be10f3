//! A configuration with its URL read and every rule checked.

use std::path::Path;

use async_nats::rustls::pki_types::pem::PemObject;
use async_nats::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use async_nats::rustls::{ClientConfig, RootCertStore, crypto};
use interline_core::{Durability, Error, Result};
use interline_transport::settings::{Address, Profile, Tls, config, parse_duration, parse_switch};

use super::{Config, Login};
use crate::SCHEME;
use crate::names::Names;

const PORT: u16 = 4222;

/// The query keys of this transport.
const OWN: [&str; 6] = [
    "credentials",
    "nkey",
    "inbox_prefix",
    "sync_always",
    "monitor",
    "request_timeout",
];

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    /// The URL without credentials.
    pub(crate) place: String,
    /// `host:port` of each server.
    pub(crate) endpoints: Vec<String>,
    pub(crate) profile: Profile,
    pub(crate) min_durability: Durability,
    pub(crate) is_tls: bool,
    pub(crate) login: Login,
    pub(crate) names: Names,
    /// The other settings, with what the URL said.
    pub(crate) config: Config,
}

impl Config {
    pub(crate) fn resolve(&self) -> Result<Resolved> {
        let mut config = self.clone();
        // As NATS itself writes it.
        if let Some(rest) = self.shared.url.strip_prefix("tls://") {
            config.shared.url = format!("{SCHEME}://{rest}");
            config.shared.tls.enabled.get_or_insert(true);
        }
        let (shared, mut address) = config.shared.resolve(SCHEME, &OWN)?;
        config.shared = shared;
        config
            .finish(&mut address)
            .map_err(|error| error.on(SCHEME))
    }

    fn finish(mut self, address: &mut Address) -> Result<Resolved> {
        if address.endpoints.is_empty() || address.path.is_some() {
            return Err(config(
                format!("`{address}` names no server, or a path"),
                "write `nats://host:port[,host:port..]`",
            ));
        }
        self.take(address)?;
        if self.request_timeout.is_zero() {
            return Err(config("`request_timeout` is 0", "write 1s or more"));
        }
        let is_tls = self.shared.uses_tls(address)?;
        let login = self.login()?;
        if login.shows_secret() && !is_tls && !address.is_loopback() {
            return Err(config(
                format!("logging in to `{address}` without TLS would show the credentials"),
                "set `tls=on`, or log in with `credentials` or `nkey`; `insecure=1` does not \
                 allow this",
            ));
        }
        Ok(Resolved {
            place: address.to_string(),
            endpoints: address
                .endpoints
                .iter()
                .map(|endpoint| endpoint.with_port(PORT))
                .collect(),
            profile: self.shared.profile(address),
            min_durability: self.shared.min_durability(address, Durability::Process),
            is_tls,
            login,
            names: Names::new(self.shared.namespace.as_deref())?,
            config: self,
        })
    }

    /// What the URL says of this transport's own settings.
    fn take(&mut self, address: &mut Address) -> Result<()> {
        for (key, slot) in [
            ("credentials", &mut self.credentials),
            ("nkey", &mut self.nkey),
        ] {
            if let Some(path) = address.take(key) {
                *slot = Some(path.into());
            }
        }
        for (key, slot) in [
            ("inbox_prefix", &mut self.inbox_prefix),
            ("monitor", &mut self.monitor),
        ] {
            if let Some(text) = address.take(key) {
                *slot = Some(text);
            }
        }
        if let Some(text) = address.take("sync_always") {
            self.sync_always = parse_switch("sync_always", &text)?;
        }
        if let Some(text) = address.take("request_timeout") {
            self.request_timeout = parse_duration("request_timeout", &text)?;
        }
        match (address.user.take(), address.password.take()) {
            // As NATS itself writes a token.
            (Some(token), None) if self.password.is_none() => self.token = Some(token.into()),
            (user, password) => {
                self.user = user.or(self.user.take());
                self.password = password.or(self.password.take());
            }
        }
        self.check_inbox()
    }

    fn check_inbox(&self) -> Result<()> {
        let Some(prefix) = &self.inbox_prefix else {
            return Ok(());
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || "-_=$".contains(c);
        let token = |token: &str| !token.is_empty() && token.chars().all(legal);
        if prefix.split('.').all(token) {
            return Ok(());
        }
        Err(config(
            "`inbox_prefix` is no subject",
            "write tokens of A-Z a-z 0-9 - _ joined by dots, as in `_INBOX_shop`",
        ))
    }

    fn login(&self) -> Result<Login> {
        let mut logins = Vec::new();
        match (&self.user, &self.password) {
            (Some(user), Some(password)) => {
                logins.push(Login::Password(user.clone(), password.clone()));
            }
            (None, None) => {}
            _ => {
                return Err(config(
                    "a user needs a password, and a password a user",
                    "write `nats://user:password@host`, or `nats://token@host`",
                ));
            }
        }
        if let Some(token) = &self.token {
            logins.push(Login::Token(token.clone()));
        }
        if let Some(file) = &self.credentials {
            logins.push(Login::from_credentials(file)?);
        }
        if let Some(file) = &self.nkey {
            logins.push(Login::from_seed(file)?);
        }
        if logins.len() > 1 {
            return Err(config(
                "there is more than one way to log in",
                "give a password, a token, `credentials` or `nkey`, and no two of them",
            ));
        }
        Ok(logins.pop().unwrap_or(Login::Anonymous))
    }
}

impl Resolved {
    /// The encryption. A provider is named, because none may be installed, or several linked.
    pub(crate) fn tls(&self) -> Result<ClientConfig> {
        let tls = &self.config.shared.tls;
        // Without `tls=on` nothing is trusted: a server that insists on TLS is refused, and the
        // error says what to set.
        let roots = match (&tls.ca, self.is_tls) {
            (Some(file), _) => roots_of(file)?,
            (None, true) => system_roots()?,
            (None, false) => RootCertStore::empty(),
        };
        let provider = crypto::ring::default_provider();
        let builder = ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .map_err(|cause| unusable("the versions of TLS", cause))?
            .with_root_certificates(roots);
        match client_certificate(tls)? {
            Some((chain, key)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|cause| unusable("`tls_cert` and `tls_key`", cause)),
            None => Ok(builder.with_no_client_auth()),
        }
    }
}

type Certificate = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn client_certificate(tls: &Tls) -> Result<Option<Certificate>> {
    let (Some(cert), Some(key)) = (&tls.cert, &tls.key) else {
        if tls.cert.is_some() || tls.key.is_some() {
            return Err(config(
                "`tls_cert` and `tls_key` need each other",
                "set both, or none",
            ));
        }
        return Ok(None);
    };
    let chain = certificates("tls_cert", cert)?;
    let key =
        PrivateKeyDer::from_pem_file(key).map_err(|cause| unreadable("tls_key", key, cause))?;
    Ok(Some((chain, key)))
}

fn certificates(setting: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|cause| unreadable(setting, file, cause));
    all
}

fn roots_of(file: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("tls_ca", file)? {
        roots
            .add(certificate)
            .map_err(|cause| unusable("`tls_ca`", cause))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        return Err(config(
            "this machine has no list of trusted authorities",
            "install it (ca-certificates), or set `tls_ca=FILE`",
        ));
    }
    Ok(roots)
}

fn unreadable(setting: &str, file: &Path, cause: impl std::error::Error) -> Error {
    // The cause of a malformed key might show a part of it.
    let what = cause.to_string();
    let what = what.split(['\n', ':']).next().unwrap_or_default();
    config(
        format!("the file {file:?} of `{setting}` cannot be read ({what})"),
        "check its path and permissions, and that it is PEM",
    )
}

fn unusable(what: &str, cause: async_nats::rustls::Error) -> Error {
    config(
        format!("{what} cannot be used"),
        "check the certificates and the key",
    )
    .because(cause)
}
