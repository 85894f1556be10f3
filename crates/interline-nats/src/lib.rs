#![doc = include_str!("../README.md")]

mod admin;
mod api;
mod config;
mod connect;
mod control;
mod durability;
mod error;
mod feed;
mod horizons;
mod hub;
mod leases;
mod link;
mod message;
mod monitor;
mod names;
mod publisher;
mod reader;
mod reading;
mod source;
mod topics;
mod transport;

pub use crate::config::Config;
pub use crate::connect::connect;
pub use crate::transport::Transport;

/// The scheme of this transport's URLs.
pub const SCHEME: &str = "nats";

/// What is NATS' alone.
pub mod native {
    pub use interline_transport::settings::{Profile, Secret, Shared, Tls};

    pub use crate::admin::Admin;
    pub use crate::control::Control;
    pub use crate::feed::Feed;
    pub use crate::hub::declared;
    pub use crate::publisher::Publisher;
    pub use crate::reader::Reader;
}
