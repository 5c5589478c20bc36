//! The postings offset table of an index: for each label pair, where its postings are.
//!
//! It is verified once when the index is opened; of each name, every 32nd value stays in memory as a place to start scanning from. Version 1
//! does not promise an order, so there all of it stays.

use std::collections::BTreeMap;

use model::{QueryContext, QueryError};

use super::scan::{IndexFile, Scan};
use crate::bytes::{Bytes, DecodeError};

/// One value of this many stays in memory.
const SAMPLING: usize = 32;

/// Label names and, by way of the file, their values.
#[derive(Debug, Default)]
pub(super) struct OffsetTable {
    /// Sorted.
    names: Vec<Name>,
    /// Where the postings of all series are.
    pub(super) all_at: Option<u64>,
    /// Pairs, that of all series not among them.
    pub(super) pairs: u64,
}

#[derive(Debug)]
struct Name {
    name: Box<str>,
    values: Values,
}

#[derive(Debug)]
enum Values {
    /// Every 32nd value, from the first on, with the position of its entry; and where the entries of the name end.
    Sampled { sampled: Vec<(Box<str>, u64)>, end: u64 },
    /// Every value with the position of its postings.
    All(Vec<(Box<str>, u64)>),
}

impl OffsetTable {
    /// Reads and verifies the section at `offset`.
    pub(super) fn load(file: &IndexFile, offset: u64, is_sorted: bool) -> Result<Self, QueryError> {
        let section = file.section(offset)?;
        let mut scan = Scan::checked(file, section);
        let count = scan.entry(|bytes| bytes.be32())?;
        let table = if is_sorted {
            Self::load_sorted(&mut scan, count)?
        } else {
            Self::load_unsorted(&mut scan, count)?
        };
        scan.verify()?;
        if !table.names.is_sorted_by(|a, b| a.name < b.name) {
            return Err(file.corrupt(offset, "label names are not sorted"));
        }
        Ok(table)
    }

    fn load_sorted(scan: &mut Scan<'_>, count: u32) -> Result<Self, QueryError> {
        let mut table = Self::default();
        let mut of_name = 0;
        for _ in 0..count {
            let at = scan.position();
            scan.entry(|bytes| {
                let (name, value, offset) = offset_entry(bytes)?;
                if name.is_empty() && value.is_empty() {
                    table.all_at = Some(offset);
                    return Ok(());
                }
                if table.names.last().is_none_or(|last| *last.name != *name) {
                    let values = Values::Sampled { sampled: Vec::new(), end: at };
                    table.names.push(Name { name: name.into(), values });
                    of_name = 0;
                }
                if of_name % SAMPLING == 0
                    && let Some(Name { values: Values::Sampled { sampled, .. }, .. }) =
                        table.names.last_mut()
                {
                    sampled.push((value.into(), at));
                }
                of_name += 1;
                table.pairs += 1;
                Ok(())
            })?;
            if let Some(Name { values: Values::Sampled { end, .. }, .. }) = table.names.last_mut() {
                *end = scan.position();
            }
        }
        Ok(table)
    }

    fn load_unsorted(scan: &mut Scan<'_>, count: u32) -> Result<Self, QueryError> {
        let mut all_at = None;
        let mut names: BTreeMap<Box<str>, BTreeMap<Box<str>, u64>> = BTreeMap::new();
        for _ in 0..count {
            scan.entry(|bytes| {
                let (name, value, offset) = offset_entry(bytes)?;
                if name.is_empty() && value.is_empty() {
                    all_at = Some(offset);
                } else {
                    names.entry(name.into()).or_default().insert(value.into(), offset);
                }
                Ok(())
            })?;
        }
        let pairs = names.values().map(|values| values.len() as u64).sum();
        let names = names.into_iter();
        let names = names
            .map(|(name, values)| Name { name, values: Values::All(values.into_iter().collect()) });
        Ok(Self { names: names.collect(), all_at, pairs })
    }

    /// Label names, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &*name.name)
    }

    fn name(&self, name: &str) -> Option<&Name> {
        let at = self.names.binary_search_by(|known| (*known.name).cmp(name)).ok()?;
        Some(&self.names[at])
    }

    /// Calls `on_value` with the values of label `name` that start with `prefix`, in order, and where the postings of each are, until it
    /// returns false.
    pub(super) fn values_with(
        &self,
        file: &IndexFile,
        name: &str,
        prefix: &str,
        context: &QueryContext,
        mut on_value: impl FnMut(&str, u64) -> bool,
    ) -> Result<(), QueryError> {
        let Some(name) = self.name(name) else { return Ok(()) };
        // Whether there may be more. What starts with a text follows on what is smaller than it, and is followed by what is greater.
        let mut offer = |value: &str, offset| match value.starts_with(prefix) {
            true => on_value(value, offset),
            false => value < prefix,
        };
        let (sampled, end) = match &name.values {
            Values::Sampled { sampled, end } => (sampled, *end),
            Values::All(values) => {
                for (value, offset) in values {
                    context.check()?;
                    if !offer(value, *offset) {
                        break;
                    }
                }
                return Ok(());
            }
        };
        let before = sampled.partition_point(|(sampled, _)| **sampled <= *prefix);
        let mut scan = Scan::new(file, sampled[before.saturating_sub(1)].1..end);
        let in_front = prefix_bytes(&name.name);
        let mut more = true;
        let mut count = 0_u32;
        while more && !scan.is_done() {
            if count.is_multiple_of(1024) {
                context.check()?;
            }
            count = count.wrapping_add(1);
            more = scan.entry(|bytes| {
                let (value, offset) = value_entry(bytes, in_front)?;
                Ok(offer(value, offset))
            })?;
        }
        Ok(())
    }

    /// Where the postings of a pair are.
    pub(super) fn find(
        &self,
        file: &IndexFile,
        name: &str,
        value: &str,
    ) -> Result<Option<u64>, QueryError> {
        let Some(name) = self.name(name) else { return Ok(None) };
        let (sampled, end) = match &name.values {
            Values::Sampled { sampled, end } => (sampled, *end),
            Values::All(values) => {
                let found = values.binary_search_by(|(known, _)| (**known).cmp(value));
                return Ok(found.ok().map(|at| values[at].1));
            }
        };
        let after = sampled.partition_point(|(sampled, _)| &**sampled <= value);
        let Some(group) = after.checked_sub(1) else { return Ok(None) };
        let end = sampled.get(after).map_or(end, |(_, at)| *at);
        let mut scan = Scan::new(file, sampled[group].1..end);
        let prefix = prefix_bytes(&name.name);
        while !scan.is_done() {
            let found = scan.entry(|bytes| {
                let (found, offset) = value_entry(bytes, prefix)?;
                Ok((found == value).then_some(offset))
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

/// One entry.
fn offset_entry<'b>(bytes: &mut Bytes<'b>) -> Result<(&'b str, &'b str, u64), DecodeError> {
    if bytes.uvarint()? != 2 {
        return Err(DecodeError::Invalid("postings offset entry is not of a pair"));
    }
    Ok((bytes.str()?, bytes.str()?, bytes.uvarint()?))
}

/// Bytes in front of the value in all entries of a name: the number of strings, and the name.
fn prefix_bytes(name: &str) -> usize {
    let mut prefix = vec![2];
    crate::bytes::put_str(&mut prefix, name);
    prefix.len()
}

fn value_entry<'b>(bytes: &mut Bytes<'b>, prefix: usize) -> Result<(&'b str, u64), DecodeError> {
    bytes.take(prefix)?;
    Ok((bytes.str()?, bytes.uvarint()?))
}
