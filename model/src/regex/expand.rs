//! Templates: a text with references to the groups of a match.

use std::sync::LazyLock;

use super::Captures;
use super::class::Class;
use super::unicode;

/// Letters and digits beyond ASCII, which names may have.
static LETTERS: LazyLock<Class> = LazyLock::new(|| {
    let mut letters = unicode::class("L").unwrap_or_default();
    letters.extend(&unicode::class("Nd").unwrap_or_default());
    letters.normalize();
    letters
});

/// Numbers from here on are names.
const NUMBER_LIMIT: usize = 1_000_000_000;

pub(super) fn expand(captures: &Captures<'_, '_>, template: &str, into: &mut String) {
    let mut left = template;
    while let Some((before, after)) = left.split_once('$') {
        into.push_str(before);
        left = after;
        if let Some(after) = left.strip_prefix('$') {
            into.push('$');
            left = after;
            continue;
        }
        let Some((name, after)) = reference(left) else {
            into.push('$');
            continue;
        };
        left = after;
        let group = match number(name) {
            Some(group) => captures.get(group),
            None => captures.name(name),
        };
        into.push_str(group.unwrap_or_default());
    }
    into.push_str(left);
}

/// The name after a `$`, and what follows it.
fn reference(text: &str) -> Option<(&str, &str)> {
    let braced = text.strip_prefix('{');
    let text = braced.unwrap_or(text);
    let (name, after) = text.split_at(text.find(|c| !is_name(c)).unwrap_or(text.len()));
    let after = if braced.is_some() { after.strip_prefix('}')? } else { after };
    (!name.is_empty()).then_some((name, after))
}

fn number(name: &str) -> Option<usize> {
    let plain = name.bytes().all(|b| b.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    name.parse().ok().filter(|&group| plain && group < NUMBER_LIMIT)
}

fn is_name(c: char) -> bool {
    if c.is_ascii() {
        return c == '_' || c.is_ascii_alphanumeric();
    }
    let c = u32::from(c);
    let ranges = LETTERS.ranges();
    let after = ranges.partition_point(|&(lo, _)| lo <= c);
    after.checked_sub(1).is_some_and(|index| ranges[index].1 >= c)
}
