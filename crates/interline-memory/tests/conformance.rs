//! The conformance suite over the memory transport, under a paused clock.

use std::process::ExitCode;

use bytes::Bytes;
use interline_memory::{connect, native};
use interline_testkit::{Foreign, Harness, Suite};

fn main() -> ExitCode {
    Suite::new("memory", harness).paused_clock().main()
}

/// A memory of its own for each scenario, since clocks are paused one by one.
fn harness() -> Harness {
    let url = format!("memory://{}", Harness::fresh("suite"));
    let foreign = url.clone();
    Harness::new(move || {
        let url = url.clone();
        async move { connect(&*url).await }
    })
    .write_foreign(move |written| {
        let url = foreign.clone();
        async move { write(&url, written).await }
    })
}

async fn write(url: &str, foreign: Foreign) -> interline_core::Result<()> {
    let transport = connect(url).await?;
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
    native::write_raw(&transport, topic, key.clone(), &headers, payload.clone()).map(|_| ())
}
