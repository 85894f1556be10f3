#![doc = include_str!("../README.md")]

mod admin;
mod client;
mod codec;
mod config;
mod connect;
mod control;
mod error;
mod feed;
mod health;
mod keys;
mod leases;
mod probe;
mod publisher;
mod reader;
mod reply;
mod scripts;
mod server;
mod source;
mod stand;
mod tls;
mod topics;
mod transport;

pub use crate::config::Config;
pub use crate::connect::connect;
pub use crate::transport::Transport;

/// The scheme of this transport's URLs; `rediss` is the same over TLS.
pub const SCHEME: &str = "redis";

/// What is Redis' alone.
pub mod native {
    pub use interline_transport::settings::{Profile, Secret, Shared, Tls};

    pub use crate::admin::Admin;
    pub use crate::control::Control;
    pub use crate::feed::Feed;
    pub use crate::publisher::Publisher;
    pub use crate::reader::Reader;
}
