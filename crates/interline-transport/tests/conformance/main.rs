//! The conformance suite over the shared feed and control, under a paused clock: events are in
//! memory, leases in a table beside it.

#[path = "../lease/table.rs"]
mod table;

mod admin;
mod source;
mod store;
mod transport;

use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use interline_memory::native;
use interline_testkit::{Foreign, Harness, Suite};

use self::store::Groups;
use self::transport::Transport;

fn main() -> ExitCode {
    Suite::new("leased", harness).paused_clock().main()
}

/// A memory of its own for each scenario, since clocks are paused one by one.
fn harness() -> Harness {
    let url = format!("memory://{}", Harness::fresh("leased"));
    let foreign = url.clone();
    let groups = Arc::new(Groups::default());
    Harness::new(move || {
        let (url, groups) = (url.clone(), Arc::clone(&groups));
        async move {
            let memory = interline_memory::connect(&*url).await?;
            Ok(Transport::new(memory, groups))
        }
    })
    .write_foreign(move |written| {
        let url = foreign.clone();
        async move { write(&url, written).await }
    })
}

async fn write(url: &str, foreign: Foreign) -> interline_core::Result<()> {
    let memory = interline_memory::connect(url).await?;
    let headers: Vec<(&[u8], &[u8])> = foreign
        .headers
        .iter()
        .map(|(name, value): &(String, Bytes)| (name.as_bytes(), &**value))
        .collect();
    let Foreign {
        topic,
        key,
        payload,
        ..
    } = &foreign;
    native::write_raw(&memory, topic, key.clone(), &headers, payload.clone()).map(|_| ())
}
