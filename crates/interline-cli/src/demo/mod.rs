//! `interline demo`: a webhook intake, from the publish to the redrive, with failures on purpose.

mod check;
mod faults;
mod handlers;
mod intake;
mod ledger;
mod report;
mod roles;
mod story;
mod webhooks;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use interline::{AnyTransport, Bus, Group, Topic, Transport as _};

use self::faults::Faults;
use self::webhooks::Webhooks;
use crate::interrupt::Interrupt;
use crate::stop::{Exit, Stop};

/// How long anything may stand still before the demo gives it up as lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// Show the bus at work: a webhook intake with failures, and what becomes of them
#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// The broker; without one it runs in the memory of this process
    #[arg(
        long,
        env = "INTERLINE_URL",
        hide_env_values = true,
        default_value = "memory://"
    )]
    url: String,
    /// Webhooks to publish instead of the demo's own: a JSON object a line, with `event`, `action`,
    /// `repository`, `sender` and `payload`
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Publish the webhooks so many times
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    copies: u32,
    /// The topic; without one it is new for each run and deleted at its end
    #[arg(long)]
    topic: Option<Topic>,
    /// The group of the handlers
    #[arg(long, default_value = "intake")]
    group: Group,
    /// How long handling an event takes, in milliseconds
    #[arg(long, default_value_t = 0, value_name = "MS")]
    work: u64,
    /// Let nothing fail
    #[arg(long)]
    no_faults: bool,
    /// Play one part only, so that several processes share the work; see `--effects`
    #[arg(long, requires = "topic", conflicts_with = "check")]
    role: Option<Role>,
    /// The file to which consuming processes append a line for each effect before it is settled
    #[arg(long, value_name = "FILE")]
    effects: Option<PathBuf>,
    /// The handlers are repaired: nothing fails for good (with --role consume)
    #[arg(long)]
    repaired: bool,
    /// Compare a file of effects with what was published: lost, duplicates, order
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
}

/// The part that a process plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Publishes the webhooks
    Publish,
    /// Handles them until each has its effect
    Consume,
}

pub(crate) async fn run(args: Demo, json: bool, interrupt: &Interrupt) -> Result<Exit, Stop> {
    let webhooks = Webhooks::load(args.input.as_deref(), args.copies)?;
    let faults = match args.no_faults {
        true => Faults::none(),
        false => Faults::planned(webhooks.len()),
    };
    if let Some(file) = &args.check {
        return check::run(file, &webhooks, &faults, json);
    }
    let scene = Scene {
        topic: args.topic.clone(),
        group: args.group,
        work: Duration::from_millis(args.work),
        webhooks,
        faults,
    };
    let transport = interline::connect(&args.url).await?;
    match args.role {
        None => story::tell(scene, transport, json, interrupt).await,
        Some(Role::Publish) => roles::publish(&scene, bus(&transport), json, interrupt).await,
        Some(Role::Consume) => {
            let Some(effects) = args.effects else {
                let line = "`--role consume` needs `--effects FILE`, where its effects are written";
                return Err(Stop::new(Exit::Usage, line));
            };
            roles::consume(scene, transport, &effects, args.repaired, json, interrupt).await
        }
    }
}

/// What is played, whoever plays it.
#[derive(Debug)]
struct Scene {
    topic: Option<Topic>,
    group: Group,
    work: Duration,
    webhooks: Webhooks,
    faults: Faults,
}

impl Scene {
    /// The topic, and whether it is of this run alone.
    fn topic(&self) -> Result<(Topic, bool), Stop> {
        match &self.topic {
            Some(topic) => Ok((topic.clone(), false)),
            None => {
                let name = format!("webhooks-{:08x}", fastrand::u32(..));
                Ok((Topic::new(name)?, true))
            }
        }
    }
}

fn bus(transport: &AnyTransport) -> Bus {
    Bus::new(transport.clone()).source("/interline/demo")
}

/// Closes what is left; the work is done, so that an error is only told.
async fn close(transport: &AnyTransport) {
    if let Err(error) = transport.close(Duration::from_secs(10)).await {
        crate::stop::complain(&error.to_string());
    }
}
