//! Partitions that no member of the group reads.
//!
//! A cooperative rebalance has two halves: members are told what to give back, give it back, and ask for the second half, in which it goes to its
//! new owner. A static member killed in between gets on its return what the broker had noted for it, and asks for nothing: what it was to give
//! back is nobody's, for as long as the members live (H42). So each member looks at the group, and joins anew where it stands like that.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use rdkafka::error::KafkaError;

use super::Command;
use super::assigned::Reader;
use crate::change::TopicPartition;
use crate::config::Kafka;

/// Between looks.
const LOOK: Duration = Duration::from_secs(10);
/// Looks in a row that find the same, before it is more than a rebalance under way.
const LOOKS: u32 = 3;

/// Looks until the other side of `ended` is gone, and asks the poll thread to join anew where partitions stay unread.
pub(super) fn watch(kafka: &Kafka, topics: &[String], commands: &Sender<Command>, ended: &Receiver<()>) {
    let reader = match Reader::open(kafka) {
        Ok(reader) => reader,
        Err(error) => return tracing::error!(%error, "cannot watch the group"),
    };
    let mut last = BTreeSet::new();
    let mut times = 0;
    while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        let unread = unread(&reader, &kafka.group, topics).unwrap_or_else(|error| {
            tracing::debug!(%error, "looking at the group");
            BTreeSet::new()
        });
        times = if unread.is_empty() || unread != last { u32::from(!unread.is_empty()) } else { times + 1 };
        last = unread;
        if times == LOOKS {
            let names: Vec<String> = last.iter().map(ToString::to_string).collect();
            tracing::warn!(partitions = names.join(", "), "no member of the group reads these: joining anew, so that they are dealt out");
            times = 0;
            if commands.send(Command::Rejoin).is_err() {
                return;
            }
        }
    }
}

/// Partitions of the topics that nobody was given, while the group is at rest.
fn unread(reader: &Reader, group: &str, topics: &[String]) -> Result<BTreeSet<TopicPartition>, KafkaError> {
    let Some(given) = reader.given(group)? else { return Ok(BTreeSet::new()) };
    let mut all = BTreeSet::new();
    for topic in topics {
        all.extend(reader.partitions(topic)?);
    }
    Ok(all.difference(&given).cloned().collect())
}

/// What a member was given, as the consumer protocol writes it: version, then topics with their partitions. `None` if it is cut short.
pub(super) fn given(mut bytes: &[u8]) -> Option<Vec<TopicPartition>> {
    let bytes = &mut bytes;
    take::<2>(bytes)?;
    let mut partitions = Vec::new();
    for _ in 0..i32::from_be_bytes(take(bytes)?) {
        let length = usize::try_from(i16::from_be_bytes(take(bytes)?)).ok()?;
        let (name, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        let topic: Arc<str> = Arc::from(std::str::from_utf8(name).ok()?);
        for _ in 0..i32::from_be_bytes(take(bytes)?) {
            partitions.push(TopicPartition { topic: Arc::clone(&topic), partition: i32::from_be_bytes(take(bytes)?) });
        }
    }
    Some(partitions)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h42_an_assignment_is_read_as_the_broker_keeps_it() {
        let written = b"\0\x01\0\0\0\x02\0\x01a\0\0\0\x02\0\0\0\0\0\0\0\x03\0\x02bc\0\0\0\x01\0\0\0\x01\xff\xff\xff\xff";
        let names: Vec<String> = given(written).expect("whole").iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a[0]", "a[3]", "bc[1]"]);
        assert_eq!(given(b"\0\x01\0\0\0\0\xff\xff\xff\xff"), Some(Vec::new()));
        for length in 0..written.len() - 4 {
            assert_eq!(given(&written[..length]), None, "of {length} bytes");
        }
    }
}
