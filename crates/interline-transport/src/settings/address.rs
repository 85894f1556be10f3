//! URLs of brokers.

use std::fmt;
use std::net::IpAddr;

use interline_core::Result;
use percent_encoding::percent_decode_str;

use super::value::shown;
use super::{Secret, Shared, config};

/// A URL, taken apart and percent-decoded.
///
/// Display shows it without credentials and without query, which may hold secrets too.
///
/// ```
/// use interline_transport::settings::Address;
///
/// let address = Address::parse("kafka://ada:pass%20word@a:9092,b/prefix?acks=all")?;
/// assert_eq!(address.to_string(), "kafka://a:9092,b/prefix");
/// assert_eq!(address.password.unwrap().reveal(), "pass word");
/// assert_eq!(address.endpoints[1].with_port(9092), "b:9092");
/// # Ok::<(), interline_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// In lower case.
    pub scheme: String,
    /// The user.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// Where the servers are; empty for `memory://`.
    pub endpoints: Vec<Endpoint>,
    /// What follows the endpoints, without the slash.
    pub path: Option<String>,
    query: Vec<(String, Secret)>,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address; an IPv6 address without brackets.
    pub host: String,
    /// The port, if it is given.
    pub port: Option<u16>,
}

impl Endpoint {
    /// `host:port` with `default` where none is given, IPv6 addresses in brackets.
    #[must_use]
    pub fn with_port(&self, default: u16) -> String {
        Self {
            host: self.host.clone(),
            port: self.port.or(Some(default)),
        }
        .to_string()
    }

    fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                let port = match rest {
                    "" => None,
                    rest => Some(rest.strip_prefix(':')?),
                };
                (host, port)
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        if host.is_empty() {
            return None;
        }
        Some(Self {
            host: decoded(host)?,
            port: port.map(str::parse).transpose().ok()?,
        })
    }

    fn is_loopback(&self) -> bool {
        let host = self.host.to_ascii_lowercase();
        host == "localhost"
            || host.ends_with(".localhost")
            || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What a caller wrote may hold anything: keep it on one line.
        let host = self.host.escape_debug();
        if self.host.contains(':') {
            write!(f, "[{host}]")?;
        } else {
            write!(f, "{host}")?;
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl Address {
    /// Takes `url` apart.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](interline_core::ErrorKind::Config) saying which part is malformed;
    /// the URL itself is shown without credentials.
    pub fn parse(url: &str) -> Result<Self> {
        let malformed = |part: &str| {
            config(
                format!("the {part} of `{}` is malformed", redacted(url)),
                "write `scheme://[user[:password]@]host[:port][,host:port..][/path][?key=value]` \
                 with special characters percent-encoded",
            )
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| malformed("scheme"))?;
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '-';
        if scheme.is_empty() || !scheme.chars().all(legal) {
            return Err(malformed("scheme"));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        let mut address = Self {
            scheme: scheme.to_ascii_lowercase(),
            user: None,
            password: None,
            endpoints: Vec::new(),
            path: None,
            query: parse_query(query).ok_or_else(|| malformed("query"))?,
        };
        if let Some(login) = login {
            let (user, password) = match login.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (login, None),
            };
            address.user = Some(decoded(user).ok_or_else(|| malformed("user"))?);
            address.password = password
                .map(|text| {
                    decoded(text)
                        .map(Secret::from)
                        .ok_or_else(|| malformed("password"))
                })
                .transpose()?;
        }
        for host in hosts.split(',').filter(|_| !hosts.is_empty()) {
            let endpoint = Endpoint::parse(host).ok_or_else(|| malformed("host"))?;
            address.endpoints.push(endpoint);
        }
        if !path.is_empty() {
            address.path = Some(decoded(path).ok_or_else(|| malformed("path"))?);
        }
        Ok(address)
    }

    /// Whether every endpoint is this machine; an address without endpoints is.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.endpoints.iter().all(Endpoint::is_loopback)
    }

    /// Takes the value of a query key; of one given twice the last counts.
    pub fn take(&mut self, key: &str) -> Option<String> {
        let mut value = None;
        self.query.retain(|(known, text)| {
            let other = known != key;
            if !other {
                value = Some(text.reveal().to_owned());
            }
            other
        });
        value
    }

    /// The query keys that were not taken, with their values.
    pub fn query(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.query.iter().map(|(key, value)| (&**key, value))
    }

    /// Refuses keys that are neither shared nor among `own`. A name in `own` that ends in `*`
    /// stands for every key that begins so.
    pub(super) fn check_keys(&self, own: &[&str]) -> Result<()> {
        let known = |key: &str| {
            Shared::KEYS.contains(&key)
                || own.iter().any(|name| match name.strip_suffix('*') {
                    Some(prefix) => key.starts_with(prefix),
                    None => *name == key,
                })
        };
        let Some((key, _)) = self.query.iter().find(|(key, _)| !known(key)) else {
            return Ok(());
        };
        let names = Shared::KEYS.iter().chain(own).copied();
        let nearest = names
            .map(|name| (distance(key, name), name))
            .min()
            .filter(|(distance, _)| *distance <= 1 + key.len() / 3);
        let remedy = match nearest {
            Some((_, name)) => format!("did you mean `{name}`?"),
            None => format!(
                "known are {}",
                Shared::KEYS
                    .iter()
                    .chain(own)
                    .copied()
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        };
        let message = format!("{:?} is no setting of `{self}`", shown(key));
        Err(config(message, remedy))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme)?;
        for (at, endpoint) in self.endpoints.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{endpoint}")?;
        }
        match &self.path {
            Some(path) => write!(f, "/{}", path.escape_debug()),
            None => Ok(()),
        }
    }
}

/// What may be shown of a URL that need not be well-formed: nothing before the last `@`, and
/// nothing of the query.
pub(super) fn redacted(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{}://", shown(scheme)), rest),
        None => (String::new(), url),
    };
    // A password may hold unencoded `/`, `?` or `@` in a malformed URL.
    let rest = rest.rsplit_once('@').map_or(rest, |(_, hosts)| hosts);
    let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
    let shown: String = rest.chars().take(100).collect();
    format!("{scheme}{shown}").escape_debug().to_string()
}

fn parse_query(query: &str) -> Option<Vec<(String, Secret)>> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=')?;
            Some((decoded(key)?, decoded(value)?.into()))
        })
        .collect()
}

fn decoded(text: &str) -> Option<String> {
    Some(percent_decode_str(text).decode_utf8().ok()?.into_owned())
}

/// The number of single-character edits between two short names.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substitute = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
