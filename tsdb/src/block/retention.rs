//! Which blocks to delete because they are old or there is no room for them.

use model::Timestamp;
use ulid::Ulid;

use super::meta::Meta;

/// A block that may be deleted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'m> {
    pub(crate) meta: &'m Meta,
    /// Size of its files.
    pub(crate) bytes: u64,
}

/// Blocks that ended `retention_ms` (0: none) or longer before `reference`, oldest first. With the end of the newest block as the
/// reference, as in Prometheus, neither the clock nor a stray sample can delete a block, and the newest stays.
pub(crate) fn beyond_time(
    blocks: &[Candidate<'_>],
    reference: Timestamp,
    retention_ms: i64,
) -> Vec<Ulid> {
    if retention_ms <= 0 {
        return Vec::new();
    }
    let is_old = |meta: &Meta| reference.saturating_sub(meta.max_time) >= retention_ms;
    let old = newest_first(blocks).into_iter().rev().map(|block| block.meta);
    old.filter(|meta| is_old(meta)).map(|meta| meta.ulid).collect()
}

/// Blocks for which there is no room within `bytes_max` (0: no bound) once all newer ones and `other_bytes` are counted, oldest first.
pub(crate) fn beyond_size(blocks: &[Candidate<'_>], other_bytes: u64, bytes_max: u64) -> Vec<Ulid> {
    if bytes_max == 0 {
        return Vec::new();
    }
    let mut bytes = other_bytes;
    let newest_first = newest_first(blocks);
    let kept = newest_first.iter().take_while(|block| {
        bytes = bytes.saturating_add(block.bytes);
        bytes <= bytes_max
    });
    let kept = kept.count();
    newest_first[kept..].iter().rev().map(|block| block.meta.ulid).collect()
}

fn newest_first<'m>(blocks: &[Candidate<'m>]) -> Vec<Candidate<'m>> {
    let mut blocks = blocks.to_vec();
    blocks.sort_by_key(|block| std::cmp::Reverse(block.meta.max_time));
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(ulids: Vec<Ulid>) -> Vec<u128> {
        ulids.into_iter().map(u128::from).collect()
    }

    #[test]
    fn old_and_excess_blocks_are_named_oldest_first() {
        let ends = [(1, 100), (2, 300), (3, 200)];
        let metas = ends.map(|(number, max)| Meta::of_head(Ulid::from(number), max - 100, max));
        let blocks: Vec<Candidate<'_>> =
            metas.iter().map(|meta| Candidate { meta, bytes: 10 }).collect();
        let by_time = |reference, retention| numbers(beyond_time(&blocks, reference, retention));
        assert_eq!(by_time(300, 0), []);
        assert_eq!(by_time(300, 201), []);
        assert_eq!(by_time(300, 200), [1]);
        assert_eq!(by_time(300, 100), [1, 3]);
        assert_eq!(by_time(300, 1), [1, 3], "the newest stays");
        assert_eq!(by_time(i64::MIN, 1), []);
        let by_size = |other, max| numbers(beyond_size(&blocks, other, max));
        assert_eq!(by_size(0, 0), []);
        assert_eq!(by_size(0, 30), []);
        assert_eq!(by_size(1, 30), [1]);
        assert_eq!(by_size(15, 30), [1, 3]);
        assert_eq!(by_size(30, 30), [1, 3, 2]);
        assert_eq!(by_size(u64::MAX, 30), [1, 3, 2]);
    }
}
