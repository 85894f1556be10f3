//! What an event type declares, made once for each source.

use std::any::TypeId;
use std::hash::BuildHasher;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use foldhash::fast::FixedState;
use interline_core::{
    ByteString, Codec, Envelope, Event, EventId, Key, Kind, Outgoing, Result, Timestamp, Topic,
};

/// How many lists there are: some hundred types are found at once.
const LISTS: usize = 64;

/// The declarations of the types that were published from one source.
///
/// They are never taken back, and so are found without a lock: one would cost an event more than
/// making its id does.
pub(crate) struct Declarations([OnceLock<Box<Entry>>; LISTS]);

struct Entry {
    ty: TypeId,
    declared: Declared,
    next: OnceLock<Box<Self>>,
}

/// What is the same for every event of a Rust type.
pub(crate) struct Declared {
    kind: Arc<Kind>,
    topic: Topic,
}

impl Default for Declarations {
    fn default() -> Self {
        Self([const { OnceLock::new() }; LISTS])
    }
}

impl Declarations {
    /// The declaration of `E`, made at the first call.
    ///
    /// # Errors
    /// When the source or what `E` declares is not valid.
    pub(crate) fn of<E: Event>(&self, source: &ByteString) -> Result<&Declared> {
        let ty = TypeId::of::<E>();
        let hash = FixedState::with_seed(0).hash_one(ty) as usize;
        let mut place = &self.0[hash % LISTS];
        loop {
            let entry = match place.get() {
                Some(entry) => entry,
                None => {
                    let declared = Declared::of::<E>(source)?;
                    place.get_or_init(|| Box::new(Entry::new(ty, declared)))
                }
            };
            // Another thread may have been first here, with another type.
            if entry.ty == ty {
                return Ok(&entry.declared);
            }
            place = &entry.next;
        }
    }
}

impl Entry {
    fn new(ty: TypeId, declared: Declared) -> Self {
        Self {
            ty,
            declared,
            next: OnceLock::new(),
        }
    }
}

impl Declared {
    fn of<E: Event>(source: &ByteString) -> Result<Self> {
        let mut kind = Kind::new(source.clone(), ByteString::from_static(E::TYPE))?
            .content_type(ByteString::from_static(E::Codec::default().content_type()));
        if let Some(schema) = E::SCHEMA {
            kind = kind.schema(ByteString::from_static(schema));
        }
        Ok(Self {
            kind: Arc::new(kind),
            topic: Topic::new(E::TOPIC)?,
        })
    }

    pub(crate) fn outgoing(&self, key: Option<Key>, payload: Bytes, now: Timestamp) -> Outgoing {
        let kind = Arc::clone(&self.kind);
        let envelope = Envelope::from_parts(EventId::at(now), kind, Some(now), key, Some(payload));
        Outgoing::new(self.topic.clone(), envelope)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::ptr::from_ref;
    use std::thread;

    use interline_json::Json;
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Numbered<const N: usize>;

    impl<const N: usize> Event for Numbered<N> {
        const TYPE: &'static str = "bus.numbered";
        const TOPIC: &'static str = if N.is_multiple_of(2) { "even" } else { "odd" };
        type Codec = Json;
    }

    fn found<const N: usize>(all: &Declarations) -> (usize, Topic) {
        let declared = all.of::<Numbered<N>>(&"/here".into()).unwrap();
        (from_ref(declared).addr(), declared.topic.clone())
    }

    #[test]
    fn each_type_has_one_declaration_whoever_asks_first() {
        type Find = fn(&Declarations) -> (usize, Topic);
        // One more than there are lists, so that two share one.
        macro_rules! types {
            ($($n:literal)*) => { [$(found::<$n> as Find),*] };
        }
        let types: [Find; LISTS + 1] = types!(
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32
            33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61
            62 63 64
        );
        let all = Declarations::default();
        let ask = || types.map(|find| find(&all));
        let answers = thread::scope(|scope| {
            [scope.spawn(ask), scope.spawn(ask)].map(|thread| thread.join().unwrap())
        });
        assert_eq!(answers[0], answers[1]);
        assert_eq!(answers[0], ask());
        let places: HashSet<usize> = answers[0].iter().map(|(place, _)| *place).collect();
        assert_eq!(places.len(), types.len());
        for (number, (_, topic)) in answers[0].iter().enumerate() {
            let expected = if number.is_multiple_of(2) {
                "even"
            } else {
                "odd"
            };
            assert_eq!(topic.as_str(), expected);
        }
    }
}
