#![doc = include_str!("../README.md")]

mod admin;
mod config;
mod connect;
mod control;
mod error;
mod feed;
mod fetch;
mod horizon;
mod inbox;
mod link;
mod migrate;
mod places;
mod publisher;
mod reader;
mod schema;
mod session;
mod state;
mod store;
mod tls;
mod topics;
mod transport;
mod upkeep;
mod watch;

pub use crate::config::Config;
pub use crate::connect::connect;
pub use crate::transport::Transport;

/// The scheme of this transport's URLs.
pub const SCHEME: &str = "postgres";

/// What is PostgreSQL's alone.
pub mod native {
    pub use interline_transport::settings::{Profile, Secret, Shared, Tls};

    pub use crate::admin::Admin;
    pub use crate::connect::declared;
    pub use crate::control::Control;
    pub use crate::feed::Feed;
    pub use crate::inbox::Inbox;
    pub use crate::migrate::{Migration, migrations};
    pub use crate::publisher::{Publisher, publish_in, wake};
    pub use crate::reader::Reader;
    pub use crate::upkeep::{Upkeep, keep_house};
}
