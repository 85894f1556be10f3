//! Tokens for SASL/OAUTHBEARER.

use std::fmt;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use interline_core::{Error, ErrorKind, Result};
use interline_transport::settings::Secret;
use rdkafka::client::OAuthToken;

use crate::SCHEME;

/// How soon a provider that failed is asked again.
const RETRY: Duration = Duration::from_secs(2);

/// A token for SASL/OAUTHBEARER.
#[derive(Clone, Debug)]
pub struct Token {
    /// The token itself, as the broker wants it.
    pub value: Secret,
    /// The principal, for logs of the broker.
    pub principal: String,
    /// When it ends.
    pub expires: SystemTime,
}

/// The error of a token provider. Its text must not hold the token.
pub type TokenError = Box<dyn std::error::Error + Send + Sync>;

/// Gets tokens for SASL/OAUTHBEARER.
///
/// It is asked on a thread of its own, may block, and is asked again when three quarters of a
/// token's life are over. Any closure of this shape is one:
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use interline_kafka::native::{Token, TokenSource};
///
/// let source = TokenSource::new(|| {
///     Ok(Token {
///         value: "header.claims.signature".into(),
///         principal: "billing".into(),
///         expires: SystemTime::now() + Duration::from_secs(3_600),
///     })
/// });
/// assert_eq!(format!("{source:?}"), "TokenSource");
/// ```
pub trait TokenProvider: Send + Sync + 'static {
    /// A fresh token.
    ///
    /// # Errors
    /// When none can be had now; the old one is used until it ends.
    fn token(&self) -> Result<Token, TokenError>;
}

impl<F: Fn() -> Result<Token, TokenError> + Send + Sync + 'static> TokenProvider for F {
    fn token(&self) -> Result<Token, TokenError> {
        self()
    }
}

/// A shared [`TokenProvider`].
#[derive(Clone)]
pub struct TokenSource(Arc<dyn TokenProvider>);

impl TokenSource {
    /// Shares `provider`.
    pub fn new(provider: impl TokenProvider) -> Self {
        Self(Arc::new(provider))
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource")
    }
}

/// The token in use, renewed in time by a thread that ends with this.
///
/// librdkafka asks on the thread that also moves events; a provider that blocks there would stop
/// them, and idle producers with a token that ended would never send again.
#[derive(Debug)]
pub(crate) struct Tokens {
    current: Arc<Mutex<Option<Token>>>,
    _alive: mpsc::Sender<()>,
}

impl Tokens {
    /// Gets the first token, at most within `deadline`, and keeps it fresh.
    pub(crate) fn start(source: TokenSource, deadline: Duration) -> Result<Arc<Self>> {
        let current = Arc::new(Mutex::new(None));
        let (alive, stopped) = mpsc::channel();
        let (first, began) = mpsc::channel();
        let slot = Arc::clone(&current);
        thread::Builder::new()
            .name("interline-kafka-token".to_owned())
            .spawn(move || renew(&source, &slot, &first, &stopped))
            .map_err(|cause| refused("no thread could be started for it").because(cause))?;
        match began.recv_timeout(deadline) {
            Ok(Ok(())) => Ok(Arc::new(Self {
                current,
                _alive: alive,
            })),
            Ok(Err(cause)) => Err(refused("the token provider failed").because(cause)),
            Err(_) => Err(refused("the token provider did not answer in time")),
        }
    }

    pub(crate) fn current(&self) -> Result<OAuthToken, &'static str> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let token = current.as_ref().ok_or("no token has been got yet")?;
        let expires = token.expires.duration_since(SystemTime::UNIX_EPOCH);
        let expires = expires.map_err(|_| "the token has ended")?;
        Ok(OAuthToken {
            token: token.value.reveal().to_owned(),
            principal_name: token.principal.clone(),
            lifetime_ms: i64::try_from(expires.as_millis()).unwrap_or(i64::MAX),
        })
    }
}

fn renew(
    source: &TokenSource,
    slot: &Mutex<Option<Token>>,
    first: &mpsc::Sender<Result<(), TokenError>>,
    stopped: &mpsc::Receiver<()>,
) {
    loop {
        let wait = match source.0.token() {
            Ok(token) => {
                let left = token.expires.duration_since(SystemTime::now());
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
                // Nobody listens after the first token.
                let _ = first.send(Ok(()));
                left.unwrap_or_default().mul_f32(0.75).max(RETRY)
            }
            Err(cause) => {
                tracing::warn!(target: "interline::kafka", "the token provider failed: {cause}");
                let _ = first.send(Err(cause));
                RETRY
            }
        };
        if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

fn refused(why: &'static str) -> Error {
    Error::new(ErrorKind::Denied, "connect", why)
        .on(SCHEME)
        .remedy("check the source of the OAUTHBEARER token")
}
