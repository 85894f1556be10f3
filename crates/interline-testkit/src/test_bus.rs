//! A bus for the tests of an application.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use interline_bus::{Bus, Delivery, Handled, Witness};
use interline_core::{
    AnyTransport, Budget, Codec, Envelope, Error, ErrorKind, Event, Pattern, ReadSpec, Reader,
    Result, Start, Topic, Transport, Until,
};
use interline_reliability::{DeadLetter, Fail, Failure};
use tokio::time::timeout;

use crate::{Faults, Faulty, Journal};

/// A bus over a layer of faults, which waits for what handlers do and lets them fail by plan.
///
/// With tokio's clock paused, retries, timeouts and leases pass at once, and a wait for something
/// that never comes ends as soon as nothing else can happen. The bus under test is
/// [`bus`](Self::bus); the application's own way of making its groups stays as it is.
///
/// ```
/// use std::time::Duration;
/// use interline_bus::{Bus, GroupBuilder, Handled};
/// # use interline_core::{Bytes, BytesMut, Codec, Event, Result};
/// use interline_testkit::TestBus;
/// # #[derive(Debug, PartialEq)] struct Placed(u8);
/// # #[derive(Default)] struct OneByte;
/// # impl Codec<Placed> for OneByte {
/// #     fn content_type(&self) -> &'static str { "application/octet-stream" }
/// #     fn encode(&self, placed: &Placed, buffer: &mut BytesMut) -> Result<()> { buffer.extend_from_slice(&[placed.0]); Ok(()) }
/// #     fn decode(&self, _: Option<&str>, payload: &Bytes) -> Result<Placed> { Ok(Placed(payload[0])) }
/// # }
/// # impl Event for Placed { const TYPE: &'static str = "placed"; const TOPIC: &'static str = "orders"; type Codec = OneByte; }
///
/// async fn charge(_: Placed) -> Handled {
///     Ok(())
/// }
///
/// fn billing(bus: &Bus) -> GroupBuilder {
///     bus.group("billing").on(charge)
/// }
///
/// // In a test: #[tokio::test(start_paused = true)]
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<()> {
/// let test = TestBus::over(interline_memory::connect("memory://").await?);
/// let workers = billing(test.bus()).start().await?;
/// test.fail_next::<Placed>(2);
/// test.bus().publish(Placed(7)).await?;
/// assert_eq!(test.consumed::<Placed>().await?, Placed(7));
/// assert_eq!(test.attempts::<Placed>(), 3);
/// workers.drain(Duration::from_secs(1)).await?.into_result()?;
/// # Ok(()) }
/// ```
pub struct TestBus {
    bus: Bus,
    faults: Faults,
    seen: Arc<Seen>,
    deadline: Duration,
}

/// What was seen of the calls of handlers, and what is planned for them.
#[derive(Default)]
struct Seen {
    /// Events that were handled, in order.
    handled: Journal<Envelope>,
    plan: Mutex<Plan>,
}

#[derive(Default)]
struct Plan {
    failures: BTreeMap<String, Vec<Failure>>,
    attempts: BTreeMap<String, usize>,
    /// How many handled events of a type were taken.
    taken: BTreeMap<String, usize>,
}

impl Seen {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Look(Arc<Seen>);

impl Witness for Look {
    fn begins(&self, delivery: &Delivery<'_>) -> Handled {
        let ty = delivery.envelope().ty();
        let mut plan = self.0.plan();
        *plan.attempts.entry(ty.to_owned()).or_default() += 1;
        match plan.failures.get_mut(ty).and_then(Vec::pop) {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    fn returned(&self, envelope: &Envelope, handled: &Handled) {
        if handled.is_ok() {
            self.0.handled.note(envelope.clone());
        }
    }
}

impl TestBus {
    /// A bus over `transport`, most often `memory://`.
    pub fn over(transport: impl Transport) -> Self {
        let (faulty, faults) = Faulty::over(transport);
        let seen = Arc::new(Seen::default());
        let look = Look(Arc::clone(&seen));
        Self {
            bus: Bus::new(AnyTransport::new(faulty)).witness(look),
            faults,
            seen,
            deadline: Duration::from_secs(60),
        }
    }

    /// Sets how long each wait takes at most: 60 s by default.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The bus under test.
    #[must_use]
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// What the transport below does wrong: refused events, failing checkpoints, stalled feeds.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Lets the next `attempts` attempts for events of type `E` fail before their handler runs,
    /// as if it had returned a transient error.
    pub fn fail_next<E: Event>(&self, attempts: usize) {
        for _ in 0..attempts {
            self.fail_next_with::<E>("a planned failure".transient());
        }
    }

    /// Lets the next attempt for an event of type `E` fail with `failure`, after those that are
    /// planned already.
    pub fn fail_next_with<E: Event>(&self, failure: Failure) {
        let mut plan = self.seen.plan();
        let failures = plan.failures.entry(E::TYPE.to_owned()).or_default();
        failures.insert(0, failure);
    }

    /// How many attempts for events of type `E` have begun, planned failures among them.
    #[must_use]
    pub fn attempts<E: Event>(&self) -> usize {
        let plan = self.seen.plan();
        plan.attempts.get(E::TYPE).copied().unwrap_or(0)
    }

    /// Waits for the next event of type `E` that a handler has handled, and returns it: each call
    /// another one, in the order of handling, whichever group it was.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] if none is handled before the deadline;
    /// [`ErrorKind::Undecodable`] if a raw handler took something else under this type.
    ///
    /// # Cancellation
    /// A dropped wait takes no event.
    pub async fn consumed<E: Event>(&self) -> Result<E> {
        let look = |handled: &[Envelope]| {
            let mut plan = self.seen.plan();
            let taken = plan.taken.entry(E::TYPE.to_owned()).or_default();
            let mut of_type = handled.iter().filter(|envelope| envelope.ty() == E::TYPE);
            let next = of_type.nth(*taken)?.clone();
            *taken += 1;
            Some(next)
        };
        let waiting = self.seen.handled.until(look);
        let envelope = timeout(self.deadline, waiting).await.map_err(|_| {
            let attempts = self.attempts::<E>();
            let message = format!(
                "no (further) `{}` was handled in {attempts} attempts",
                E::TYPE
            );
            Error::new(ErrorKind::Timeout, "consumed", message)
        })?;
        let payload = envelope.payload().cloned().unwrap_or_else(Bytes::new);
        E::Codec::default().decode(envelope.content_type(), &payload)
    }

    /// Waits for a dead letter of `group` from the topic of `E`, and returns the first.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] if there is none before the deadline; when the topic cannot be read.
    pub async fn dead_letter<E: Event>(&self, group: &str) -> Result<DeadLetter> {
        let group = interline_core::Group::new(group)?;
        let letters = Topic::new(E::TOPIC)?.dlq(&group);
        let spec = ReadSpec {
            topics: vec![Pattern::exact(letters.as_str())],
            start: Start::Earliest,
            until: Until::Forever,
        };
        let mut reader = self.bus.transport().read(spec).await?;
        let reading = async {
            while let Some(batch) = reader.next(Budget::default()).await? {
                let mut letters = batch.records.iter().filter_map(DeadLetter::from_record);
                if let Some(letter) = letters.find(|letter| letter.envelope.ty() == E::TYPE) {
                    return Ok(letter);
                }
            }
            Err(Error::closed("dead letter"))
        };
        timeout(self.deadline, reading).await.unwrap_or_else(|_| {
            let message = format!("no `{}` became a dead letter of `{group}`", E::TYPE);
            Err(Error::new(ErrorKind::Timeout, "dead letter", message))
        })
    }
}

impl fmt::Debug for TestBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestBus")
            .field("bus", &self.bus)
            .finish_non_exhaustive()
    }
}
