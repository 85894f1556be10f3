//! What is Redis' alone: its handles by name, streams that belong to somebody else, and the
//! inbox of groups.

use std::sync::Arc;

use interline_core::{ErrorKind, Result, Topic, TopicSpec};
pub use interline_transport::settings::{Profile, Secret, Shared, Tls};

pub use crate::admin::Admin;
pub use crate::control::Control;
use crate::error::error;
pub use crate::feed::Feed;
pub use crate::inbox::Inbox;
pub use crate::publisher::Publisher;
pub use crate::reader::Reader;
use crate::topics;
use crate::transport::Transport;
pub use crate::transport::declared;

/// Makes the stream `key`, which another application writes, readable as `topic` with one
/// partition. The stream is never trimmed or deleted by interline.
///
/// Its ids do not count its events, so that the lag of a group is not known, and of a position
/// that is no longer there it cannot be told whether events were lost. Publishing to it works.
///
/// # Errors
/// [`Invalid`](ErrorKind::Invalid) if the topic is there already and is another;
/// when the server cannot be reached.
pub async fn adopt(transport: &Transport, topic: &Topic, key: &str) -> Result<()> {
    let server = transport.server();
    let spec = TopicSpec::new(topic.clone());
    let (facts, _) = topics::create(server, "adopt", &spec, Some(key)).await?;
    if facts.is_dense || facts.streams.first().is_none_or(|stream| *stream != key) {
        return Err(error(
            ErrorKind::Invalid,
            "adopt",
            format!("topic `{topic}` is there already"),
            "choose another name, or delete the topic",
        ));
    }
    server.learn(&Arc::new(facts));
    Ok(())
}
