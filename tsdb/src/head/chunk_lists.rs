//! For each series the list of its full chunks: eight bytes a chunk, in runs of a few sizes.
//!
//! A `Vec` per series would cost 24 bytes and an allocation before it held anything. Runs of one size are kept together, so that a list that
//! outgrows its run leaves room for another series' list.

use super::lean::LeanPush;

/// Chunks that a run holds. Two hours at the usual rate make four or five, a cut comes after three hours at the latest.
const RUN_LENGTHS: [usize; 12] = [1, 2, 4, 6, 8, 12, 16, 24, 32, 64, 128, 512];

/// A longer list goes on in runs of its own.
const RUN_LENGTH_MAX: usize = RUN_LENGTHS[RUN_LENGTHS.len() - 1];

/// Names the list of one series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChunkList {
    /// Number of the run within its class.
    run: u32,
    len: u16,
    class: u8,
}

impl ChunkList {
    /// Of a series without full chunks.
    pub(crate) const EMPTY: Self = Self { run: 0, len: 0, class: 0 };

    pub(crate) const fn len(self) -> usize {
        self.len as usize
    }
}

/// The runs of one length.
#[derive(Debug, Default)]
struct Class {
    chunks: Vec<u64>,
    free: Vec<u32>,
}

/// All lists.
#[derive(Debug, Default)]
pub(crate) struct ChunkLists {
    classes: [Class; RUN_LENGTHS.len()],
}

impl ChunkLists {
    /// The chunks of a list, oldest first.
    pub(crate) fn get(&self, list: ChunkList) -> &[u64] {
        let length = RUN_LENGTHS[usize::from(list.class)];
        let start = list.run as usize * length;
        self.classes[usize::from(list.class)].chunks.get(start..start + list.len()).unwrap_or(&[])
    }

    /// Adds a chunk at the end. Of a list that is at its maximum, the oldest is dropped: it would take 512 chunks of one series within three
    /// hours, and the log has their samples.
    pub(crate) fn push(&mut self, list: ChunkList, chunk: u64) -> ChunkList {
        if list.len() == RUN_LENGTH_MAX {
            let mut chunks = self.get(list)[1..].to_vec();
            chunks.push(chunk);
            return self.replace(list, &chunks);
        }
        let length = RUN_LENGTHS[usize::from(list.class)];
        if list.len > 0 && list.len() < length {
            let at = list.run as usize * length + list.len();
            self.classes[usize::from(list.class)].chunks[at] = chunk;
            return ChunkList { len: list.len + 1, ..list };
        }
        let mut chunks = self.get(list).to_vec();
        chunks.push(chunk);
        self.replace(list, &chunks)
    }

    /// Drops the chunks before the first that `keeps`.
    pub(crate) fn drop_front(&mut self, list: ChunkList, keeps: impl Fn(u64) -> bool) -> ChunkList {
        let chunks = self.get(list);
        let dropped = chunks.iter().take_while(|&&chunk| !keeps(chunk)).count();
        if dropped == 0 {
            return list;
        }
        let kept = chunks[dropped..].to_vec();
        self.replace(list, &kept)
    }

    /// Gives the run back.
    pub(crate) fn free(&mut self, list: ChunkList) {
        if list.len == 0 {
            return;
        }
        let class = &mut self.classes[usize::from(list.class)];
        class.free.push(list.run);
        // Series that started together outgrow a class together.
        if class.free.len() * RUN_LENGTHS[usize::from(list.class)] == class.chunks.len() {
            *class = Class::default();
        }
    }

    fn replace(&mut self, list: ChunkList, chunks: &[u64]) -> ChunkList {
        self.free(list);
        if chunks.is_empty() {
            return ChunkList::EMPTY;
        }
        let class = RUN_LENGTHS.iter().position(|&length| length >= chunks.len());
        let class = class.expect("lists are kept below the longest run");
        let length = RUN_LENGTHS[class];
        let Class { chunks: all, free } = &mut self.classes[class];
        let run = free.pop().unwrap_or_else(|| {
            let run = u32::try_from(all.len() / length).expect("series are fewer than 2^32");
            (0..length).for_each(|_| all.lean_push(0));
            run
        });
        let start = run as usize * length;
        all[start..start + chunks.len()].copy_from_slice(chunks);
        ChunkList {
            run,
            len: u16::try_from(chunks.len()).expect("at most the longest run"),
            class: u8::try_from(class).expect("there are few classes"),
        }
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        let of = |class: &Class| class.chunks.capacity() * 8 + class.free.capacity() * 4;
        self.classes.iter().map(of).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_what_vectors_would_be() {
        let mut lists = ChunkLists::default();
        let mut all = vec![(ChunkList::EMPTY, Vec::new()); 40];
        let mut state = 7_u64;
        for i in 0..20_000_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let which = usize::try_from(state >> 33).unwrap() % all.len();
            let (list, model) = &mut all[which];
            if state >> 60 == 0 {
                let from = model.get(model.len() / 2).copied().unwrap_or(0);
                *list = lists.drop_front(*list, |chunk| chunk >= from);
                model.retain(|&chunk| chunk >= from);
            } else {
                *list = lists.push(*list, i);
                model.push(i);
            }
        }
        for (list, model) in &all {
            assert_eq!(lists.get(*list), model);
        }
    }

    #[test]
    fn an_endless_list_forgets_its_oldest() {
        let mut lists = ChunkLists::default();
        let list = (0..600).fold(ChunkList::EMPTY, |list, chunk| lists.push(list, chunk));
        assert_eq!(lists.get(list), (88..600).collect::<Vec<u64>>());
        lists.free(list);
        assert_eq!(lists.get(ChunkList::EMPTY), [0_u64; 0]);
    }
}
