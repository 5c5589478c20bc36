//! The place in the expression, and what is read character by character.

use std::str::Chars;

use super::super::class::RUNE_MAX;
use super::super::{RegexError, RegexErrorKind};

/// The minimum and, after a comma, the maximum of `{min,max}`: for the latter the outer `None`
/// means that there is no limit. A number that is too big to be one is `None`.
pub(super) type Counts = (Option<u32>, Option<Option<u32>>);

/// Numbers of a count from here on are too big, however large.
const COUNT_LIMIT: u32 = 100_000_000;

pub(super) struct Scanner<'p> {
    pattern: &'p str,
    rest: Chars<'p>,
}

impl<'p> Scanner<'p> {
    pub(super) fn new(pattern: &'p str) -> Self {
        Self { pattern, rest: pattern.chars() }
    }

    /// How many bytes have been read.
    pub(super) fn position(&self) -> usize {
        self.pattern.len() - self.rest.as_str().len()
    }

    pub(super) fn rest(&self) -> &'p str {
        self.rest.as_str()
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        self.rest.next()
    }

    /// The same expression, read up to `position`.
    pub(super) fn at(&self, position: usize) -> Self {
        Self { pattern: self.pattern, rest: self.pattern[position..].chars() }
    }

    /// Goes on by so many bytes, which end where a character does.
    pub(super) fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.as_str()[bytes..].chars();
    }

    /// An error in what has been read since `start`.
    pub(super) fn error_since(&self, kind: RegexErrorKind, start: usize) -> RegexError {
        error(kind, &self.pattern[start..self.position()])
    }

    /// An error in all that follows `start`.
    pub(super) fn error_from(&self, kind: RegexErrorKind, start: usize) -> RegexError {
        error(kind, &self.pattern[start..])
    }

    /// An error of the whole expression.
    pub(super) fn error_in_whole(&self, kind: RegexErrorKind) -> RegexError {
        error(kind, self.pattern)
    }

    /// The counts after a `{`. `None`, and nothing is read, if that is no repetition.
    pub(super) fn counts(&mut self) -> Option<Counts> {
        let before = self.rest.clone();
        let counts = self.try_counts();
        if counts.is_none() {
            self.rest = before;
        }
        counts
    }

    fn try_counts(&mut self) -> Option<Counts> {
        let min = self.count()?;
        let max = match self.next()? {
            '}' => return Some((min, Some(min))),
            ',' if self.peek() == Some('}') => None,
            ',' => Some(self.count()?),
            _ => return None,
        };
        (self.next()? == '}').then_some((min, max))
    }

    /// A decimal number without leading zeros; `Some(None)` if it is too big.
    fn count(&mut self) -> Option<Option<u32>> {
        let rest = self.rest();
        let length = rest.bytes().take_while(u8::is_ascii_digit).count();
        let digits = &rest[..length];
        if digits.is_empty() || (length > 1 && digits.starts_with('0')) {
            return None;
        }
        self.skip(length);
        Some(digits.parse().ok().filter(|&count| count < COUNT_LIMIT))
    }

    /// The code point of an escape whose backslash, at `start`, has been read.
    pub(super) fn escape(&mut self, start: usize) -> Result<u32, RegexError> {
        let Some(c) = self.next() else {
            return Err(error(RegexErrorKind::TrailingBackslash, ""));
        };
        let rune = match c {
            'a' => Some(0x07),
            'f' => Some(0x0C),
            'n' => Some(0x0A),
            'r' => Some(0x0D),
            't' => Some(0x09),
            'v' => Some(0x0B),
            'x' => self.hexadecimal(),
            '0'..='7' => self.octal(c),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(u32::from(c)),
            _ => None,
        };
        rune.ok_or_else(|| self.error_since(RegexErrorKind::Escape, start))
    }

    /// Up to three digits, `first` among them; a single one other than 0 would refer to a group.
    fn octal(&mut self, first: char) -> Option<u32> {
        let mut rune = first.to_digit(8)?;
        let mut digits = 1;
        while digits < 3 {
            let Some(digit) = self.peek().and_then(|c| c.to_digit(8)) else { break };
            self.next();
            rune = rune * 8 + digit;
            digits += 1;
        }
        (digits > 1 || first == '0').then_some(rune)
    }

    /// Two digits, or any number of them in braces.
    fn hexadecimal(&mut self) -> Option<u32> {
        let first = self.next()?;
        if first != '{' {
            // The second one is read, and is in the error, even if the first is none.
            let second = self.next();
            return Some(first.to_digit(16)? * 16 + second?.to_digit(16)?);
        }
        let (mut rune, mut digits) = (0, 0);
        loop {
            match self.next()? {
                '}' => return (digits > 0).then_some(rune),
                c => rune = rune * 16 + c.to_digit(16)?,
            }
            if rune > RUNE_MAX {
                return None;
            }
            digits += 1;
        }
    }
}

fn error(kind: RegexErrorKind, expression: &str) -> RegexError {
    RegexError { kind, expression: String::from(expression) }
}
