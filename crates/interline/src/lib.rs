#![doc = include_str!("../README.md")]

mod connect;

pub use interline_bus::{
    BatchHandler, BatchOptions, Bus, Context, Deliveries, Delivery, DrainReport, Extract,
    GroupBuilder, GroupStats, Handled, Handler, Item, Outcomes, Publish, RawDelivery, RawHandler,
    Record, Records, Replay, Setup, Shared, State, Unfinished, Workers,
};
pub use interline_core::{
    Admin, AnyTransport, AttributeValue, ByteString, Bytes, Capabilities, Codec, Durability,
    Envelope, Error, ErrorKind, Event, EventId, EventKey, Group, Headers, Instance, Key, Kind,
    Outcome, Partition, Pattern, Position, PublisherOptions, Receipt, Result, Start, Timestamp,
    Topic, TopicSpec, Transport,
};
#[cfg(feature = "macros")]
pub use interline_macros::Event;
pub use interline_reliability::{
    DeadLetter, DeadLetterPolicy, DeadLetters, Fail, Failure, FailureKind, Inbox, MemoryInbox,
    Policy, Redrive, Retry, Unhandled,
};

pub use crate::connect::connect;

/// The delivery engine and the typed bus.
pub mod bus {
    pub use interline_bus::*;
}

/// The envelope, the names and the contract of a transport.
pub mod core {
    pub use interline_core::*;
}

/// Policies and stores: retry, dead letters, inbox.
pub mod reliability {
    pub use interline_reliability::*;
}

/// The codecs `Json` and `Raw`, and the JSON format of CloudEvents.
#[cfg(feature = "json")]
pub mod json {
    pub use interline_json::*;
}

/// The transport without a server.
#[cfg(feature = "memory")]
pub mod memory {
    pub use interline_memory::*;
}

/// The transport for Apache Kafka.
#[cfg(feature = "kafka")]
pub mod kafka {
    pub use interline_kafka::*;
}

/// The transport for Redis Streams.
#[cfg(feature = "redis")]
pub mod redis {
    pub use interline_redis::*;
}

/// The transport for NATS JetStream.
#[cfg(feature = "nats")]
pub mod nats {
    pub use interline_nats::*;
}

/// The transport for PostgreSQL.
#[cfg(feature = "postgres")]
pub mod postgres {
    pub use interline_postgres::*;
}

/// What a program of handlers needs: `use interline::prelude::*;`.
pub mod prelude {
    #[cfg(feature = "macros")]
    pub use interline_macros::Event;

    pub use interline_bus::{Bus, Context, Handled, State, Workers};
    pub use interline_core::{Envelope, Event};
    pub use interline_reliability::{Fail as _, Failure, Retry};
}
