//! Writing to a memory as a client that knows nothing of interline.

use interline_core::Result;
use interline_memory::{connect, native::write_raw};
use interline_testkit::Foreign;

pub(crate) async fn write(url: &str, foreign: Foreign) -> Result<()> {
    let headers = foreign.headers.iter();
    let headers = headers.map(|(name, value)| (name.as_bytes(), &**value));
    let headers: Vec<(&[u8], &[u8])> = headers.collect();
    let Foreign {
        topic,
        key,
        payload,
        ..
    } = &foreign;
    let transport = connect(url).await?;
    write_raw(&transport, topic, key.clone(), &headers, payload.clone()).map(|_| ())
}
