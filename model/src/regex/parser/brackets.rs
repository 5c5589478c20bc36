//! Classes: `[…]`, and the escapes that stand for one.

use super::super::class::{self, Class};
use super::super::{RegexError, RegexErrorKind, unicode};
use super::scan::Scanner;

/// The class whose `[`, at `start`, has been read.
pub(super) fn class(
    scanner: &mut Scanner<'_>,
    start: usize,
    folds: bool,
) -> Result<Class, RegexError> {
    let negated = scanner.peek() == Some('^');
    if negated {
        scanner.next();
    }
    let mut class = Class::default();
    // A `]` that comes first is a member.
    let mut first = true;
    while first || scanner.peek() != Some(']') {
        first = false;
        match named(scanner, folds)? {
            Some(named) => class.extend(&named),
            None => member(scanner, &mut class, start, folds)?,
        }
    }
    scanner.next();
    class.normalize();
    Ok(if negated { class.negated() } else { class })
}

/// A character or a range of them.
fn member(
    scanner: &mut Scanner<'_>,
    class: &mut Class,
    start: usize,
    folds: bool,
) -> Result<(), RegexError> {
    let range = scanner.position();
    let lo = character(scanner, start)?;
    let mut hi = lo;
    // In `[a-]` the `-` is itself.
    let rest = scanner.rest();
    if rest.starts_with('-') && rest.len() > 1 && !rest.starts_with("-]") {
        scanner.next();
        hi = character(scanner, start)?;
        if hi < lo {
            return Err(scanner.error_since(RegexErrorKind::CharRange, range));
        }
    }
    class.push_folded(lo, hi, folds);
    Ok(())
}

fn character(scanner: &mut Scanner<'_>, start: usize) -> Result<u32, RegexError> {
    let position = scanner.position();
    match scanner.next() {
        None => Err(scanner.error_from(RegexErrorKind::MissingBracket, start)),
        Some('\\') => scanner.escape(position),
        Some(c) => Ok(u32::from(c)),
    }
}

/// `[:name:]`, or an escape that stands for a class. `None`, and nothing is read, if neither.
fn named(scanner: &mut Scanner<'_>, folds: bool) -> Result<Option<Class>, RegexError> {
    let position = scanner.position();
    let rest = scanner.rest();
    if let Some((name, _)) = rest.strip_prefix("[:").and_then(|rest| rest.split_once(":]")) {
        scanner.skip(name.len() + 4);
        let class = class::posix(name, folds);
        return class
            .map(Some)
            .ok_or_else(|| scanner.error_since(RegexErrorKind::CharRange, position));
    }
    if !rest.starts_with('\\') {
        return Ok(None);
    }
    scanner.next();
    let class = escaped_class(scanner, position, folds)?;
    if class.is_none() {
        // Back before the backslash.
        *scanner = scanner.at(position);
    }
    Ok(class)
}

/// The class that the escape stands for whose backslash, at `start`, has been read; `None`, and
/// nothing more is read, if it stands for something else.
pub(super) fn escaped_class(
    scanner: &mut Scanner<'_>,
    start: usize,
    folds: bool,
) -> Result<Option<Class>, RegexError> {
    match scanner.peek() {
        Some(c @ ('p' | 'P')) => {
            scanner.next();
            unicode_class(scanner, start, c == 'P', folds).map(Some)
        }
        Some(c) => {
            let class = class::perl(c, folds);
            if class.is_some() {
                scanner.next();
            }
            Ok(class)
        }
        None => Ok(None),
    }
}

/// The class after `\p` or `\P`: a letter, or a name in braces.
fn unicode_class(
    scanner: &mut Scanner<'_>,
    start: usize,
    mut negated: bool,
    folds: bool,
) -> Result<Class, RegexError> {
    let rest = scanner.rest();
    let mut name = match scanner.next() {
        Some('{') => {
            let Some((name, _)) = rest[1..].split_once('}') else {
                return Err(scanner.error_from(RegexErrorKind::CharRange, start));
            };
            scanner.skip(name.len() + 1);
            name
        }
        Some(c) => &rest[..c.len_utf8()],
        None => "",
    };
    if let Some(rest) = name.strip_prefix('^') {
        negated = !negated;
        name = rest;
    }
    let class = unicode::class(name)
        .ok_or_else(|| scanner.error_since(RegexErrorKind::CharRange, start))?;
    let class = if folds { class.folded() } else { class };
    Ok(if negated { class.negated() } else { class })
}
