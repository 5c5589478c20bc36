//! Reads Go's syntax (`regexp/syntax` with the Perl flags, as `regexp.Compile` takes it).
//!
//! Whatever Go refuses is refused, with the same words and the same part of the expression; a
//! `{` that starts no count is itself. Groups wait on a stack of our own, so that the depth of an
//! expression costs no stack until its limit has been checked.
//!
//! [Reference](https://pkg.go.dev/regexp/syntax).

mod brackets;
mod groups;
mod scan;
mod stack;

use regex_syntax::hir::Look;

use super::ast::{Node, Parsed};
use super::class::Class;
use super::{RegexError, RegexErrorKind, fold};
use scan::Scanner;
use stack::{Expression, Stack};

/// The largest count of a repetition, and of nested ones multiplied.
const REPEAT_MAX: u32 = 1000;

/// The most ranges that all classes of an expression may have together (8 MiB of them).
const CLASS_RANGES_MAX: usize = 1 << 20;

/// What `(?imsU)` set.
#[derive(Clone, Copy, Debug)]
struct Flags {
    /// `i`
    folds: bool,
    /// `m`
    multi_line: bool,
    /// `s`
    dot_newline: bool,
    /// `U`
    lazy: bool,
}

/// Parses a whole expression; `.` matches a newline if `dot_newline`.
///
/// # Errors
/// [`RegexError`]
pub(super) fn parse(pattern: &str, dot_newline: bool) -> Result<Parsed, RegexError> {
    let flags = Flags { folds: false, multi_line: false, dot_newline, lazy: false };
    let mut parser = Parser {
        scanner: Scanner::new(pattern),
        stack: Stack::new(flags),
        flags,
        names: Vec::new(),
        class_ranges: 0,
    };
    let mut last_repeat = None;
    while parser.scanner.peek().is_some() {
        last_repeat = parser.step(last_repeat)?;
    }
    let Some(Expression { node, height, .. }) = parser.stack.finish(&parser.scanner)? else {
        return Err(parser.scanner.error_in_whole(RegexErrorKind::MissingParenthesis));
    };
    Ok(Parsed { node, names: parser.names, height })
}

struct Parser<'p> {
    scanner: Scanner<'p>,
    stack: Stack,
    flags: Flags,
    names: Vec<Option<String>>,
    class_ranges: usize,
}

impl Parser<'_> {
    /// Reads one item; if it is a repetition, answers where that starts.
    fn step(&mut self, last_repeat: Option<usize>) -> Result<Option<usize>, RegexError> {
        let start = self.scanner.position();
        let Some(c) = self.scanner.next() else { return Ok(None) };
        match c {
            '(' if self.scanner.peek() == Some('?') => self.special_group(start)?,
            '(' => self.open_group(None),
            '|' => self.stack.alternative(&self.scanner)?,
            ')' => self.flags = self.stack.close(&self.scanner)?,
            '^' => {
                let look = if self.flags.multi_line { Look::StartLF } else { Look::Start };
                self.push(Node::Look(look))?;
            }
            '$' => {
                let look = if self.flags.multi_line { Look::EndLF } else { Look::End };
                self.push(Node::Look(look))?;
            }
            '.' if self.flags.dot_newline => self.push_class(Class::any())?,
            '.' => self.push_class(Class::not_newline())?,
            '[' => {
                let class = brackets::class(&mut self.scanner, start, self.flags.folds)?;
                self.push_class(class)?;
            }
            '*' => return self.repeat(start, (0, None), last_repeat),
            '+' => return self.repeat(start, (1, None), last_repeat),
            '?' => return self.repeat(start, (0, Some(1)), last_repeat),
            '{' => match self.scanner.counts() {
                Some(counts) => {
                    let bounds = self.bounds(start, counts)?;
                    return self.counted_repeat(start, bounds, last_repeat);
                }
                None => self.push_char('{')?,
            },
            '\\' => self.escape(start)?,
            c => self.push_char(c)?,
        }
        Ok(None)
    }

    /// What follows a backslash outside brackets.
    fn escape(&mut self, start: usize) -> Result<(), RegexError> {
        let look = match self.scanner.peek() {
            Some('A') => Some(Look::Start),
            Some('z') => Some(Look::End),
            Some('b') => Some(Look::WordAscii),
            Some('B') => Some(Look::WordAsciiNegate),
            Some('C') => {
                self.scanner.next();
                return Err(self.scanner.error_since(RegexErrorKind::Escape, start));
            }
            Some('Q') => return self.quoted(),
            _ => None,
        };
        if let Some(look) = look {
            self.scanner.next();
            return self.push(Node::Look(look));
        }
        if let Some(class) = brackets::escaped_class(&mut self.scanner, start, self.flags.folds)? {
            return self.push_class(class);
        }
        let rune = self.scanner.escape(start)?;
        match char::from_u32(rune) {
            Some(c) => self.push_char(c),
            // A surrogate: no text has it.
            None => self.push_class(Class::default()),
        }
    }

    /// `\Q…\E`, or to the end.
    fn quoted(&mut self) -> Result<(), RegexError> {
        self.scanner.next();
        let rest = self.scanner.rest();
        let (text, skipped) =
            rest.split_once(r"\E").map_or((rest, rest.len()), |(text, _)| (text, text.len() + 2));
        for c in text.chars() {
            self.push_char(c)?;
        }
        self.scanner.skip(skipped);
        Ok(())
    }

    fn push(&mut self, node: Node) -> Result<(), RegexError> {
        self.stack.push(Expression::leaf(node), &self.scanner)
    }

    fn push_char(&mut self, c: char) -> Result<(), RegexError> {
        let folds = self.flags.folds && fold::has_case(c);
        self.push(Node::Literal { text: String::from(c), folds })
    }

    fn push_class(&mut self, class: Class) -> Result<(), RegexError> {
        self.class_ranges += class.ranges().len();
        if self.class_ranges > CLASS_RANGES_MAX {
            return Err(self.scanner.error_in_whole(RegexErrorKind::TooLarge));
        }
        self.push(Node::Class(class))
    }

    /// Checks the counts of `{min,max}`; `None` in place of a number means that it is too big.
    fn bounds(
        &self,
        start: usize,
        (min, max): scan::Counts,
    ) -> Result<(u32, Option<u32>), RegexError> {
        let error = || self.scanner.error_since(RegexErrorKind::RepeatCount, start);
        let min = min.filter(|&min| min <= REPEAT_MAX).ok_or_else(error)?;
        let max = match max {
            Some(max) => Some(max.filter(|&m| m <= REPEAT_MAX && m >= min).ok_or_else(error)?),
            None => None,
        };
        Ok((min, max))
    }

    /// `{min,max}` of what came before.
    fn counted_repeat(
        &mut self,
        start: usize,
        (min, max): (u32, Option<u32>),
        last_repeat: Option<usize>,
    ) -> Result<Option<usize>, RegexError> {
        let repeat = self.repeat(start, (min, max), last_repeat)?;
        let factor = match max {
            Some(0) => 0,
            Some(max) => max.max(1),
            None => min.max(1),
        };
        let counted = min >= 2 || max.is_some_and(|max| max >= 2);
        if !self.stack.multiply_counts(factor, REPEAT_MAX) && counted {
            return Err(self.scanner.error_since(RegexErrorKind::RepeatCount, start));
        }
        Ok(repeat)
    }

    /// Repeats what came before; answers `start`, where the operator starts.
    fn repeat(
        &mut self,
        start: usize,
        (min, max): (u32, Option<u32>),
        last_repeat: Option<usize>,
    ) -> Result<Option<usize>, RegexError> {
        let mut lazy = self.flags.lazy;
        if self.scanner.peek() == Some('?') {
            self.scanner.next();
            lazy = !lazy;
        }
        if let Some(last) = last_repeat {
            return Err(self.scanner.error_since(RegexErrorKind::NestedRepeat, last));
        }
        let Some(sub) = self.stack.pop() else {
            return Err(self.scanner.error_since(RegexErrorKind::MissingArgument, start));
        };
        self.stack.push(sub.repeated(min, max, !lazy), &self.scanner)?;
        Ok(Some(start))
    }
}
