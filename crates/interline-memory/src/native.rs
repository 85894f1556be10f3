//! What only this transport has: its handles by name, and writing as a client would that knows
//! nothing of interline.

use bytes::Bytes;
use interline_core::{Position, Result, Topic};
use tokio::time::Instant;

pub use crate::admin::Admin;
pub use crate::control::Control;
pub use crate::feed::Feed;
pub use crate::publisher::Publisher;
pub use crate::reader::Reader;
use crate::store::{Raw, Store};
use crate::transport::Transport;

/// Stores key, headers and payload as they are, like a client of a broker that knows nothing of
/// interline: they are read as CloudEvents if the headers say so, and as foreign data otherwise.
/// Returns partition and position.
///
/// # Errors
/// When the transport is closed, or the topic is missing in the profile `production`.
pub fn write_raw(
    transport: &Transport,
    topic: &Topic,
    key: Option<Bytes>,
    headers: &[(&[u8], &[u8])],
    payload: Option<Bytes>,
) -> Result<(u32, Position)> {
    let link = &transport.link;
    link.check_open("publish")?;
    let log = link.topic("publish", topic)?;
    let now = link.store.clock.millis(Instant::now());
    log.append_raw(
        Raw {
            key,
            headers,
            payload,
        },
        now,
    )
}

/// Forgets the memory of this name (in this namespace, if one was used). Handles that are open
/// go on with it; the next `connect` finds an empty one.
pub fn forget(name: &str, namespace: Option<&str>) {
    Store::forget(&format!("{}/{name}", namespace.unwrap_or("")));
}
