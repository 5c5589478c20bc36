//! Collects, while the series of an index are written, which series carry which label pair.
//!
//! A posting takes one to four bytes until all are known: how far its value is, as a symbol, from that of the series before with the same
//! label name, and how far that series is, unless it is the one before. Series come sorted by labels, so values are often the same or close.
//! The lists then come out one name at a time, sorted.

use std::collections::HashMap;
use std::io;

use chunkenc::varint::{unzigzag, zigzag};

use crate::bytes::{Bytes, put_uvarint};

/// What is known so far.
#[derive(Debug, Default)]
pub(super) struct PostingsBuilder {
    /// The ids of the series, ascending.
    ids: Vec<u32>,
    columns: Vec<Column>,
    /// By name, its position in `columns`.
    by_name: HashMap<u32, usize, foldhash::fast::RandomState>,
}

/// The postings of one label name, in order of the series.
#[derive(Debug)]
pub(super) struct Column {
    /// The name's symbol.
    pub(super) name: u32,
    /// How many there are.
    len: usize,
    /// For each a varint: the difference of its value to the one before in zigzag, and below it a bit that says whether a second varint
    /// follows, how many series were passed over.
    steps: Vec<u8>,
    /// Position in `ids` after the last.
    next: usize,
    /// The value of the last.
    value: u32,
}

/// What is kept of a list once it was handed over.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListSize {
    /// The value's symbol.
    pub(super) value: u32,
    /// Its series.
    pub(super) series: u32,
}

impl PostingsBuilder {
    /// Adds a series, whose id is larger than all before.
    pub(super) fn add(&mut self, id: u32, labels: &[(u32, u32)]) {
        let at = self.ids.len();
        push_leanly(&mut self.ids, id);
        for &(name, value) in labels {
            let column = *self.by_name.entry(name).or_insert_with(|| {
                self.columns.push(Column { name, len: 0, steps: Vec::new(), next: 0, value: 0 });
                self.columns.len() - 1
            });
            let column = &mut self.columns[column];
            let passed_over = at - column.next;
            let difference = zigzag(i64::from(value) - i64::from(column.value));
            reserve_leanly(&mut column.steps, 20);
            put_uvarint(&mut column.steps, difference << 1 | u64::from(passed_over > 0));
            if passed_over > 0 {
                put_uvarint(&mut column.steps, passed_over as u64);
            }
            (column.next, column.value) = (at + 1, value);
            column.len += 1;
        }
    }

    /// All series, and the columns in order of names.
    pub(super) fn into_parts(mut self) -> (Vec<u32>, Vec<Column>) {
        self.columns.sort_unstable_by_key(|column| column.name);
        (self.ids, self.columns)
    }
}

impl Column {
    /// Calls `on_list` with each value in order and its series, ascending; `ids` are those of the builder.
    pub(super) fn each_list(
        self,
        ids: &[u32],
        mut on_list: impl FnMut(u32, &[u32]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut pairs: Vec<u64> = Vec::with_capacity(self.len);
        let mut steps = Bytes::new(&self.steps);
        let (mut next, mut value) = (0, 0_i64);
        while !steps.is_empty() {
            let step = steps.uvarint().expect("written as a varint");
            let passed_over = match step & 1 {
                0 => 0,
                _ => steps.uvarint_len().expect("the bit says that it follows"),
            };
            value += unzigzag(step >> 1);
            let at = next + passed_over;
            pairs.push(value.cast_unsigned() << 32 | u64::from(ids[at]));
            next = at + 1;
        }
        drop(self.steps);
        pairs.sort_unstable();
        let mut series = Vec::new();
        for list in pairs.chunk_by(|a, b| a >> 32 == b >> 32) {
            series.clear();
            series.extend(list.iter().map(|&pair| low(pair)));
            on_list(low(list[0] >> 32), &series)?;
        }
        Ok(())
    }
}

fn low(pair: u64) -> u32 {
    u32::try_from(pair & u64::from(u32::MAX)).expect("masked to 32 bits")
}

/// Grows by an eighth where a `Vec` would double.
fn reserve_leanly<T>(list: &mut Vec<T>, more: usize) {
    if list.capacity() - list.len() < more {
        list.reserve_exact(list.len() / 8 + more.max(64));
    }
}

fn push_leanly<T>(list: &mut Vec<T>, item: T) {
    reserve_leanly(list, 1);
    list.push(item);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_posting_takes_little_memory() {
        let (series, names) = (50_000_u32, 12);
        let mut builder = PostingsBuilder::default();
        for i in 0..series {
            // Every third series lacks the last label.
            let labels = (0..names).filter(|name| *name != names - 1 || i % 3 != 0);
            let labels: Vec<(u32, u32)> = labels.map(|name| (name, i / (name + 1))).collect();
            builder.add(i * 8, &labels);
        }
        let bytes: usize = builder.columns.iter().map(|c| c.steps.capacity()).sum();
        let postings: usize = builder.columns.iter().map(|c| c.len).sum();
        assert_eq!(postings, 50_000 * 11 + 33_333);
        // A byte and a little, and an eighth for growth.
        assert!(bytes <= postings * 11 / 8, "{bytes} bytes for {postings} postings");
    }

    proptest! {
        #[test]
        fn lists_are_those_of_a_map(
            series in prop::collection::vec(prop::collection::btree_map(0_u32..6, 0_u32..9, 0..5), 0..60),
        ) {
            let mut builder = PostingsBuilder::default();
            let mut expected: BTreeMap<(u32, u32), Vec<u32>> = BTreeMap::new();
            for (i, labels) in (0..).zip(&series) {
                let id = i * 3 + 2;
                let labels: Vec<(u32, u32)> = labels.iter().map(|(&n, &v)| (n, v)).collect();
                builder.add(id, &labels);
                labels.iter().for_each(|&pair| expected.entry(pair).or_default().push(id));
            }
            let (ids, columns) = builder.into_parts();
            prop_assert_eq!(ids.len(), series.len());
            let mut found = vec![];
            for column in columns {
                let name = column.name;
                column.each_list(&ids, |value, series| {
                    found.push(((name, value), series.to_vec()));
                    Ok(())
                }).unwrap();
            }
            prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
