//! Where a reading starts, as the command line writes it.

use std::str::FromStr;

use interline::{Error, ErrorKind, Partition, Position, Start, Timestamp, Topic};

/// `earliest`, `latest`, a time, or positions of partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Earliest,
    Latest,
    Time(Timestamp),
    /// Behind these positions.
    Behind(Vec<(u32, Position)>),
}

impl Place {
    /// The place in `topic`, which positions need and the others do not.
    pub(crate) fn start(&self, topic: Option<&Topic>) -> Result<Start, Error> {
        Ok(match self {
            Self::Earliest => Start::Earliest,
            Self::Latest => Start::Latest,
            Self::Time(time) => Start::Time(*time),
            Self::Behind(positions) => {
                let Some(topic) = topic else {
                    return Err(wrong("positions belong to one topic")
                        .remedy("name one topic instead of a pattern"));
                };
                let at = |(index, position): &(u32, Position)| {
                    (Partition::new(topic.clone(), *index), *position)
                };
                Start::At(positions.iter().map(at).collect())
            }
        })
    }
}

impl FromStr for Place {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "earliest" => return Ok(Self::Earliest),
            "latest" => return Ok(Self::Latest),
            _ => {}
        }
        if let Ok(time) = text.parse() {
            return Ok(Self::Time(time));
        }
        let position = |text: &str| {
            let (partition, position) = text.split_once(':')?;
            Some((partition.parse().ok()?, position.parse().ok()?))
        };
        let positions: Option<Vec<_>> = text.split(',').map(position).collect();
        positions.map(Self::Behind).ok_or_else(|| {
            wrong("this is no place to start").remedy(
                "write earliest, latest, a time as 2018-04-05T17:31:00Z, or partition:position,..",
            )
        })
    }
}

fn wrong(message: &'static str) -> Error {
    Error::new(ErrorKind::Invalid, "place", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_words_times_or_positions() {
        let place = |text: &str| text.parse::<Place>();
        assert_eq!(place("earliest").unwrap(), Place::Earliest);
        assert_eq!(
            place("0:41,3:1711-7").unwrap(),
            Place::Behind(vec![(0, Position::from(41)), (3, Position(1711, 7))])
        );
        let time = place("2018-04-05T17:31:00+02:00").unwrap();
        assert!(matches!(time, Place::Time(_)));
        for wrong in ["", "now", "41", "0:", ":1", "0:1,", "2018-04-05"] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn positions_need_a_topic() {
        let place: Place = "0:41".parse().unwrap();
        assert!(place.start(None).is_err());
        let topic = Topic::new("orders").unwrap();
        assert!(matches!(place.start(Some(&topic)), Ok(Start::At(at)) if at.len() == 1));
    }
}
