#![doc = include_str!("../README.md")]

mod admin;
mod config;
mod control;
mod error;
mod feed;
mod link;
pub mod native;
mod publisher;
mod reader;
mod store;
mod transport;

use interline_core::{Error, Result};

pub use crate::config::Config;
pub use crate::transport::Transport;

/// The scheme of this transport's URLs.
pub const SCHEME: &str = "memory";

/// Opens the memory that `config`, a URL or a [`Config`], names.
///
/// # Errors
/// [`ErrorKind::Config`](interline_core::ErrorKind::Config) for a malformed URL or setting.
#[expect(
    clippy::unused_async,
    reason = "every transport is connected to in the same way"
)]
pub async fn connect<C>(config: C) -> Result<Transport>
where
    C: TryInto<Config>,
    Error: From<C::Error>,
{
    Transport::open(&config.try_into()?)
}
