//! The strings of an index that is being written.

use std::io;

/// Sorted strings, each once, packed.
#[derive(Debug, Default)]
pub(crate) struct SymbolList {
    text: String,
    /// Where each string ends in `text`.
    ends: Vec<u32>,
}

impl SymbolList {
    /// Adds a string, which comes after all before.
    pub(crate) fn push(&mut self, text: &str) -> io::Result<()> {
        let last = self.ends.len().checked_sub(1).map(|last| self.get(last));
        if last.is_some_and(|last| last >= text) {
            return Err(invalid("symbols are not sorted"));
        }
        self.text.push_str(text);
        let end = u32::try_from(self.text.len()).map_err(|_| invalid("symbols exceed 4 GiB"))?;
        self.ends.push(end);
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The string at `position`.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn get(&self, position: usize) -> &str {
        let start = position.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start as usize..self.ends[position] as usize]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|position| self.get(position))
    }
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
