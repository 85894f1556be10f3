//! What `cargo xtask it` runs, as data. Add a row here and nowhere else.

/// The transports, in the order in which they are run and shown.
pub(crate) const TRANSPORTS: &[&str] = &["memory", "kafka", "redis", "nats", "postgres"];

/// One thing to run.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: &'static str,
    /// The transport under test, which must have run a scenario. Its server is up.
    pub(super) transport: &'static str,
    /// Other servers that are up, for what connects several.
    pub(super) beside: &'static [&'static str],
    pub(super) what: What,
}

impl Step {
    /// As it is called in the output.
    pub(super) fn title(&self) -> String {
        let over = match self.what {
            What::SuiteOverTls(_) => " over TLS",
            _ => "",
        };
        format!("{} on {}{over}", self.name, self.transport)
    }

    /// The column of its scenarios.
    pub(super) fn column(&self) -> String {
        match self.what {
            What::SuiteOverTls(_) => format!("{}-tls", self.transport),
            _ => self.transport.to_owned(),
        }
    }

    /// The servers that it sees.
    pub(super) fn servers(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.transport).chain(self.beside.iter().copied())
    }
}

/// How it is run.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// `cargo test` with these arguments; prints a line per scenario, which are counted instead of its tests.
    Suite(&'static str),
    /// Its smoke scenarios alone, over the server's encrypted listener: a column of its own.
    SuiteOverTls(&'static str),
    /// `cargo test` with these arguments; its tests are counted.
    Tests(&'static str),
    /// The same, with Apache Kafka's own client: its jars are in INTERLINE_KAFKA_JARS.
    WithJava(&'static str),
    /// The application in examples/NAME, with the step's transport.
    Example,
}

/// All but what connects several servers.
const COMMAND_LINE: &str = "-p interline-cli --features it --bins --test command --test broker --test hardship --test outage";

/// Test targets that need a server have `required-features = ["it"]`, so that plain `cargo test` leaves them out.
pub(super) const STEPS: &[Step] = &[
    suite("memory", "-p interline-memory --test conformance"),
    suite(
        "kafka",
        "-p interline-kafka --features it --test conformance",
    ),
    over_tls(
        "kafka",
        "-p interline-kafka --features it --test conformance",
    ),
    tests(
        "broker",
        "kafka",
        "-p interline-kafka --features it --test broker --test faults",
    ),
    with_java(
        "foreign client",
        "kafka",
        "-p interline-kafka --features it --test foreign",
    ),
    tests("command line", "kafka", COMMAND_LINE),
    suite(
        "redis",
        "-p interline-redis --features it --test conformance",
    ),
    over_tls(
        "redis",
        "-p interline-redis --features it --test conformance",
    ),
    tests(
        "server",
        "redis",
        "-p interline-redis --features it --test server --test faults",
    ),
    tests("command line", "redis", COMMAND_LINE),
    suite("nats", "-p interline-nats --features it --test conformance"),
    over_tls("nats", "-p interline-nats --features it --test conformance"),
    tests(
        "server",
        "nats",
        "-p interline-nats --features it --test server --test faults",
    ),
    tests("command line", "nats", COMMAND_LINE),
    suite(
        "postgres",
        "-p interline-postgres --features it --test conformance",
    ),
    over_tls(
        "postgres",
        "-p interline-postgres --features it --test conformance",
    ),
    tests(
        "server",
        "postgres",
        "-p interline-postgres --features it --test server",
    ),
    tests("command line", "postgres", COMMAND_LINE),
    Step {
        beside: &["nats"],
        ..tests(
            "bridge",
            "postgres",
            "-p interline-cli --features it --test bridge",
        )
    },
    example("swap", "memory"),
    example("swap", "kafka"),
    example("swap", "redis"),
    example("swap", "nats"),
    example("swap", "postgres"),
];

const fn step(name: &'static str, transport: &'static str, what: What) -> Step {
    Step {
        name,
        transport,
        beside: &[],
        what,
    }
}

const fn suite(transport: &'static str, args: &'static str) -> Step {
    step("conformance", transport, What::Suite(args))
}

const fn over_tls(transport: &'static str, args: &'static str) -> Step {
    step("conformance", transport, What::SuiteOverTls(args))
}

const fn tests(name: &'static str, transport: &'static str, args: &'static str) -> Step {
    step(name, transport, What::Tests(args))
}

const fn with_java(name: &'static str, transport: &'static str, args: &'static str) -> Step {
    step(name, transport, What::WithJava(args))
}

const fn example(name: &'static str, transport: &'static str) -> Step {
    step(name, transport, What::Example)
}
