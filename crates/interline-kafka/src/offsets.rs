//! From starts to offsets.

use std::time::Duration;

use interline_core::{Partition, Start};
use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::TopicPartitionList;

/// The first and the next offset of a partition.
pub(crate) fn ends<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    name: &str,
    index: u32,
    timeout: Duration,
) -> KafkaResult<(i64, i64)> {
    let index = i32::try_from(index).unwrap_or(i32::MAX);
    consumer.fetch_watermarks(name, index, timeout)
}

/// The offset at which a reading of `partition` starts. Blocks.
pub(crate) fn start<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    name: &str,
    partition: &Partition,
    start: &Start,
    timeout: Duration,
) -> KafkaResult<i64> {
    let ends = || ends(consumer, name, partition.index, timeout);
    match start {
        Start::Earliest => Ok(ends()?.0),
        Start::Latest => Ok(ends()?.1),
        Start::Time(time) => {
            let found = at_time(consumer, name, partition.index, time.unix_millis(), timeout)?;
            found.map_or_else(|| Ok(ends()?.1), Ok)
        }
        Start::At(positions) => {
            let mut positions = positions.iter();
            match positions.find(|(place, _)| place == partition) {
                Some((_, position)) => Ok(position.1.cast_signed().saturating_add(1)),
                None => Ok(ends()?.0),
            }
        }
    }
}

/// The offset of the first event stored at `millis` since 1970 or later, if there is one.
pub(crate) fn at_time<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    name: &str,
    index: u32,
    millis: i64,
    timeout: Duration,
) -> KafkaResult<Option<i64>> {
    let index = i32::try_from(index).unwrap_or(i32::MAX);
    let mut list = TopicPartitionList::new();
    // librdkafka takes the time where the offset will be.
    list.add_partition_offset(name, index, Offset::Offset(millis))?;
    let list = consumer.offsets_for_times(list, timeout)?;
    for element in list.elements() {
        element.error()?;
        if let Offset::Offset(offset) = element.offset() {
            return Ok(Some(offset));
        }
    }
    Ok(None)
}
