//! Groups: capturing, named, and those that set flags.

use super::super::{RegexError, RegexErrorKind};
use super::{Flags, Parser};

impl Parser<'_> {
    /// Opens a capturing group.
    pub(super) fn open_group(&mut self, name: Option<String>) {
        self.names.push(name);
        // There are no more groups than bytes in an expression, and that is far below 2³².
        let index = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.stack.open(self.flags, Some(index));
    }

    /// What starts with `(?`, the parenthesis having been read.
    pub(super) fn special_group(&mut self, start: usize) -> Result<(), RegexError> {
        self.scanner.next();
        let rest = self.scanner.rest();
        // Go looks for a name only if at least one more character follows.
        let named = ["P<", "<"]
            .iter()
            .find(|opening| rest.starts_with(**opening) && rest.len() > opening.len());
        match named {
            Some(opening) => self.named_group(start, opening.len()),
            None => self.flag_group(start),
        }
    }

    fn named_group(&mut self, start: usize, opening_bytes: usize) -> Result<(), RegexError> {
        let kind = RegexErrorKind::NamedCapture;
        let Some((name, _)) = self.scanner.rest()[opening_bytes..].split_once('>') else {
            return Err(self.scanner.error_from(kind, start));
        };
        self.scanner.skip(opening_bytes + name.len() + 1);
        if name.is_empty() || !name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric()) {
            return Err(self.scanner.error_since(kind, start));
        }
        self.open_group(Some(String::from(name)));
        Ok(())
    }

    /// `(?flags)`, which holds to the end of the group around, or `(?flags:…)`.
    fn flag_group(&mut self, start: usize) -> Result<(), RegexError> {
        let mut flags = self.flags;
        let (mut value, mut any) = (true, false);
        while let Some(c) = self.scanner.next() {
            match c {
                'i' => flags.folds = value,
                'm' => flags.multi_line = value,
                's' => flags.dot_newline = value,
                'U' => flags.lazy = value,
                '-' if value => {
                    (value, any) = (false, false);
                    continue;
                }
                ':' | ')' if value || any => {
                    self.enter(flags, c == ':');
                    return Ok(());
                }
                _ => break,
            }
            any = true;
        }
        Err(self.scanner.error_since(RegexErrorKind::PerlOperator, start))
    }

    fn enter(&mut self, flags: Flags, group: bool) {
        if group {
            self.stack.open(self.flags, None);
        }
        self.flags = flags;
    }
}
