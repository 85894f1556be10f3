//! The suite over a fault layer that hands everything through: a layer is a transport too.

use std::process::ExitCode;

use interline_testkit::{Faulty, Harness, Suite};

fn main() -> ExitCode {
    Suite::new("faulty", harness).paused_clock().main()
}

fn harness() -> Harness {
    let url = format!("memory://{}", Harness::fresh("faulty"));
    let written = url.clone();
    Harness::new(move || {
        let url = url.clone();
        async move { Ok(Faulty::over(interline_memory::connect(&*url).await?).0) }
    })
    .write_foreign(move |foreign| {
        let url = written.clone();
        async move { memory::write(&url, foreign).await }
    })
}

#[path = "memory/mod.rs"]
mod memory;
