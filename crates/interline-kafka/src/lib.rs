#![doc = include_str!("../README.md")]

mod admin;
mod assignment;
mod cluster;
mod config;
mod connect;
mod control;
mod error;
mod feed;
mod fetch;
mod ffi;
mod member;
mod monitor;
mod offsets;
mod outbox;
mod places;
mod publisher;
mod reader;
mod served;
mod token;
mod topics;
mod transport;
mod wake;

pub use crate::config::Config;
pub use crate::connect::connect;
pub use crate::transport::Transport;

/// The scheme of this transport's URLs.
pub const SCHEME: &str = "kafka";

/// What is Kafka's alone.
pub mod native {
    pub use interline_transport::settings::{Profile, Secret, Shared, Tls};

    pub use crate::admin::Admin;
    pub use crate::config::Sasl;
    pub use crate::connect::declared;
    pub use crate::control::Control;
    pub use crate::feed::Feed;
    pub use crate::publisher::Publisher;
    pub use crate::reader::Reader;
    pub use crate::token::{Token, TokenError, TokenProvider, TokenSource};
}
