//! The derive asks nothing but its crate: no codec of ours, no facade.

mod bus {
    pub use interline_core::{Bytes, Event, EventKey};
}

#[derive(Debug, Default)]
pub struct OneByte;

impl interline_core::Codec<Tick> for OneByte {
    fn content_type(&self) -> &'static str {
        "application/octet-stream"
    }

    fn encode(
        &self,
        tick: &Tick,
        buffer: &mut interline_core::BytesMut,
    ) -> interline_core::Result<()> {
        buffer.extend_from_slice(&[tick.0]);
        Ok(())
    }

    fn decode(&self, _: Option<&str>, payload: &bus::Bytes) -> interline_core::Result<Tick> {
        payload
            .first()
            .map(|byte| Tick(*byte))
            .ok_or_else(|| interline_core::undecodable("empty"))
    }
}

#[derive(interline_macros::Event)]
#[event(type = "clock.tick", topic = "clock", key = 0, codec = crate::OneByte, crate = crate::bus)]
pub struct Tick(u8);

fn main() {
    use bus::Event;
    assert_eq!(Tick(7).key().as_deref(), Some(&b"7"[..]));
}
