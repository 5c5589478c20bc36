//! The symbol table of an index: every string of its labels, sorted, named by position.
//!
//! The table is verified once when the index is opened; of it, the place of every 32nd string stays in memory. Whoever resolves symbols
//! has a [`SymbolCache`] that holds the groups of 32 it came across.

use model::QueryError;

use super::scan::{IndexFile, Scan};
use super::window::Window;
use crate::bytes::Bytes;

/// Strings in a group.
const GROUP: u32 = 32;

/// What is read at once when groups are far apart, and when one follows the other.
const AHEAD_BYTES: (usize, usize) = (8 << 10, 64 << 10);

/// Beyond this the cache starts anew.
const CACHE_BYTES_MAX: usize = 16 << 20;

/// Where the strings of an index are.
#[derive(Debug, Default)]
pub(super) struct SymbolTable {
    count: u32,
    /// Where every 32nd string is.
    sampled: Vec<u64>,
    end: u64,
    /// In version 1 symbols are named by their place in the file.
    by_offset: bool,
}

impl SymbolTable {
    /// Reads and verifies the section at `offset`.
    pub(super) fn load(file: &IndexFile, offset: u64, by_offset: bool) -> Result<Self, QueryError> {
        let section = file.section(offset)?;
        let mut scan = Scan::checked(file, section.clone());
        let count = scan.entry(|bytes| bytes.be32())?;
        let mut sampled = Vec::new();
        for i in 0..count {
            if i % GROUP == 0 {
                sampled.push(scan.position());
            }
            scan.entry(|bytes| bytes.str().map(drop))?;
        }
        scan.verify()?;
        Ok(Self { count, sampled, end: section.end, by_offset })
    }

    /// How many strings there are.
    pub(super) const fn len(&self) -> u32 {
        self.count
    }

    /// The strings in order.
    pub(super) fn iter<'r>(&'r self, file: &'r IndexFile) -> SymbolIter<'r> {
        let start = self.sampled.first().copied().unwrap_or(self.end);
        SymbolIter { scan: Scan::new(file, start..self.end), left: self.count }
    }

    /// The position among all strings of what a series entry calls `symbol`.
    pub(super) fn position(&self, file: &IndexFile, symbol: u32) -> Result<u32, QueryError> {
        if !self.by_offset {
            return if symbol < self.count { Ok(symbol) } else { Err(self.missing(file, symbol)) };
        }
        let after = self.sampled.partition_point(|&at| at <= u64::from(symbol));
        let group = after.checked_sub(1).ok_or_else(|| self.missing(file, symbol))?;
        let mut scan = Scan::new(file, self.sampled[group]..self.end);
        let first = u32::try_from(group).unwrap_or(u32::MAX).saturating_mul(GROUP);
        for position in (first..self.count).take(GROUP as usize) {
            if scan.position() == u64::from(symbol) {
                return Ok(position);
            }
            scan.entry(|bytes| bytes.str().map(drop))?;
        }
        Err(self.missing(file, symbol))
    }

    fn missing(&self, file: &IndexFile, symbol: u32) -> QueryError {
        file.corrupt(self.end, format!("there is no symbol {symbol}"))
    }
}

/// The strings of a table in order.
pub(super) struct SymbolIter<'r> {
    scan: Scan<'r>,
    left: u32,
}

impl SymbolIter<'_> {
    /// Puts the next string into `into`; false when there is none.
    pub(super) fn next_into(&mut self, into: &mut String) -> Result<bool, QueryError> {
        into.clear();
        let Some(left) = self.left.checked_sub(1) else { return Ok(false) };
        self.left = left;
        self.scan.entry(|bytes| {
            into.push_str(bytes.str()?);
            Ok(true)
        })
    }
}

/// Strings of one table that were looked up.
#[derive(Debug)]
pub(super) struct SymbolCache {
    /// By group, where in `ends` it starts, plus one; 0 where it has not been read.
    groups: Vec<u32>,
    text: String,
    /// For each group that was read, where its first string starts in `text` and where each ends.
    ends: Vec<u32>,
    window: Window,
}

impl Default for SymbolCache {
    fn default() -> Self {
        let window = Window::new(AHEAD_BYTES.0, AHEAD_BYTES.1);
        Self { groups: Vec::new(), text: String::new(), ends: Vec::new(), window }
    }
}

impl SymbolCache {
    /// Forgets what it holds if that is much. What was loaded before is not to be got any more.
    pub(super) fn trim(&mut self) {
        if self.text.len() > CACHE_BYTES_MAX {
            self.groups.clear();
            self.text.clear();
            self.ends.clear();
        }
    }

    /// Makes the string at `position`, which the table has, ready to be got.
    #[inline]
    pub(super) fn load(
        &mut self,
        table: &SymbolTable,
        file: &IndexFile,
        position: u32,
    ) -> Result<(), QueryError> {
        match self.groups.get((position / GROUP) as usize) {
            Some(&known) if known != 0 => Ok(()),
            _ => self.load_group(table, file, position / GROUP),
        }
    }

    fn load_group(
        &mut self,
        table: &SymbolTable,
        file: &IndexFile,
        group: u32,
    ) -> Result<(), QueryError> {
        self.groups.resize(table.sampled.len(), 0);
        let at = group as usize;
        let start = *table.sampled.get(at).ok_or_else(|| table.missing(file, group * GROUP))?;
        let end = table.sampled.get(at + 1).copied().unwrap_or(table.end);
        let len = usize::try_from(end - start).unwrap_or(usize::MAX);
        let read = self.window.get(file.file.as_ref(), start, len);
        let read = read.map_err(|source| file.failed(source))?;
        let mut bytes = Bytes::new(read.get(..len).unwrap_or_default());
        let first = self.ends.len();
        let strings = (table.count - group * GROUP).min(GROUP);
        let mut add = |text: &str| {
            self.text.push_str(text);
            u32::try_from(self.text.len()).map(|end| self.ends.push(end)).ok()
        };
        let mut added = add("");
        for _ in 0..strings {
            let text = bytes.str().map_err(|error| file.corrupt(start, error.to_string()))?;
            added = added.and_then(|()| add(text));
        }
        let known = u32::try_from(first + 1).ok().filter(|_| added.is_some());
        self.groups[at] = known.ok_or_else(|| file.corrupt(start, "symbols are too long"))?;
        Ok(())
    }

    /// The string at `position`, which was loaded.
    #[inline]
    pub(super) fn get(&self, position: u32) -> &str {
        let first = self.groups[(position / GROUP) as usize] as usize - 1;
        let at = first + (position % GROUP) as usize;
        &self.text[self.ends[at] as usize..self.ends[at + 1] as usize]
    }
}
