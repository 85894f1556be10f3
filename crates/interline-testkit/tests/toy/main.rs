//! A transport of one's own, proven by the suite: what a third party would write.

mod admin;
mod member;
mod reader;
mod transport;

use std::process::ExitCode;
use std::sync::Arc;

use interline_testkit::{Harness, Suite};
use transport::{Shared, Toy};

fn main() -> ExitCode {
    Suite::new("toy", harness).paused_clock().main()
}

fn harness() -> Harness {
    let shared = Arc::new(Shared::default());
    Harness::new(move || {
        let toy = Toy::connect(&shared);
        async move { Ok(toy) }
    })
    // It shares nothing: one member of a group reads, the next when its handles are gone.
    .members(1)
}
