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
mod inbox;
mod keeper;
mod keys;
mod leases;
pub mod native;
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
