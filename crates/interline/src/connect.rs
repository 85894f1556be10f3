//! Choosing the transport by the scheme of a URL.

use interline_core::{AnyTransport, Error, ErrorKind, Result};

/// The schemes of the transports that this version knows, in this build or not.
const KNOWN: [&str; 5] = ["memory", "kafka", "redis", "nats", "postgres"];

/// Connects to the broker that `url` names, such as `memory://shop` or `kafka://localhost:9092`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> interline::Result<()> {
/// use interline::Bus;
///
/// let bus = Bus::new(interline::connect("memory://shop").await?).source("/shop");
/// assert_eq!(bus.capabilities().transport, "memory");
///
/// let error = interline::connect("rabbit://ada:secret@host").await.unwrap_err();
/// assert!(error.to_string().contains("memory") && !error.to_string().contains("secret"));
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`ErrorKind::Config`] for text that is no URL, and for a scheme that is unknown or whose
/// feature is not in this build; otherwise as the `connect` of the transport. No message shows
/// what stands in the URL beside the scheme.
///
/// # Cancellation
/// A dropped call leaves no connection behind.
pub async fn connect(url: impl AsRef<str> + Send) -> Result<AnyTransport> {
    let url = url.as_ref();
    let scheme = scheme(url)?;
    match scheme.as_str() {
        #[cfg(feature = "memory")]
        interline_memory::SCHEME => interline_memory::connect(url).await.map(AnyTransport::new),
        #[cfg(feature = "kafka")]
        interline_kafka::SCHEME => interline_kafka::connect(url).await.map(AnyTransport::new),
        // The scheme that ends in `s` is the same over TLS.
        #[cfg(feature = "redis")]
        interline_redis::SCHEME | "rediss" => {
            interline_redis::connect(url).await.map(AnyTransport::new)
        }
        #[cfg(feature = "nats")]
        interline_nats::SCHEME => interline_nats::connect(url).await.map(AnyTransport::new),
        #[cfg(feature = "postgres")]
        interline_postgres::SCHEME => interline_postgres::connect(url)
            .await
            .map(AnyTransport::new),
        scheme => Err(refused(scheme)),
    }
}

fn scheme(url: &str) -> Result<String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    match url.split_once("://") {
        Some((scheme, _)) if !scheme.is_empty() && scheme.bytes().all(legal) => {
            Ok(scheme.to_ascii_lowercase())
        }
        // The text is not shown: without a scheme nothing tells where its secrets are.
        _ => Err(
            config("the URL does not begin with a scheme").remedy(format!(
                "write `scheme://..` with one of {}",
                KNOWN.join(", ")
            )),
        ),
    }
}

fn refused(scheme: &str) -> Error {
    let scheme = if scheme == "rediss" { "redis" } else { scheme };
    if KNOWN.contains(&scheme) {
        return config(format!("this build has no transport for `{scheme}://`"))
            .remedy(format!("build it with the feature `{scheme}`"));
    }
    let shown: String = scheme.chars().take(32).collect();
    config(format!("no transport is known for `{shown}://`"))
        .remedy(format!("use one of {}", KNOWN.join(", ")))
}

fn config(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, "connect", message)
}
