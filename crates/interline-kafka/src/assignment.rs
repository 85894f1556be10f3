//! Reading who owns what out of the group protocol.

/// The partitions in a member's assignment, as the classic consumer protocol writes them:
/// version, then an array of topic name and array of partition numbers, all big-endian. What
/// does not read as such holds none.
pub(crate) fn partitions(bytes: &[u8]) -> Vec<(String, i32)> {
    let mut partitions = Vec::new();
    // What was read before a broken place still counts.
    let _ = read(bytes, &mut partitions);
    partitions
}

fn read(mut input: &[u8], partitions: &mut Vec<(String, i32)>) -> Option<()> {
    take::<2>(&mut input)?;
    for _ in 0..i32::from_be_bytes(take(&mut input)?) {
        let length = usize::try_from(i16::from_be_bytes(take(&mut input)?)).ok()?;
        let (name, rest) = input.split_at_checked(length)?;
        input = rest;
        let name = std::str::from_utf8(name).ok()?;
        for _ in 0..i32::from_be_bytes(take(&mut input)?) {
            partitions.push((name.to_owned(), i32::from_be_bytes(take(&mut input)?)));
        }
    }
    Some(())
}

fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = input.split_first_chunk::<N>()?;
    *input = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_assignment_and_survives_a_broken_one() {
        let mut bytes = vec![0, 3, 0, 0, 0, 1, 0, 6];
        bytes.extend(b"orders");
        bytes.extend([0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7]);
        let both = vec![("orders".to_owned(), 0), ("orders".to_owned(), 7)];
        assert_eq!(partitions(&bytes), both);
        for end in 0..bytes.len() {
            assert!(partitions(&bytes[..end]).len() <= 2);
        }
        assert!(partitions(&[0, 0, 0xff, 0xff, 0xff, 0xff]).is_empty());
    }
}
