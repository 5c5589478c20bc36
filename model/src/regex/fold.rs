//! Which characters differ by case only: Unicode's simple case folding.
//!
//! Besides pairs there are orbits of three and four, such as `k`, `K` and the Kelvin sign.

use std::sync::LazyLock;

use regex_syntax::hir::{Class as HirClass, ClassUnicode, ClassUnicodeRange, HirKind};

use super::unicode::known;

/// The first code point beyond ASCII that takes part.
const FIRST_BEYOND_ASCII: u32 = 0x80;

/// Pairs that Unicode declared equal after the version that Go knows.
const TOO_NEW: [(u32, u32); 3] = [(0x0390, 0x1FD3), (0x03B0, 0x1FE3), (0xFB05, 0xFB06)];

/// Each code point beyond ASCII that has an orbit, ascending, with the others of the orbit.
static BEYOND_ASCII: LazyLock<Vec<(u32, Vec<u32>)>> = LazyLock::new(orbits);

/// Calls `visit` for every code point that differs by case only from one in `lo..=hi`.
pub(super) fn for_each_in(lo: u32, hi: u32, mut visit: impl FnMut(u32)) {
    for c in lo..=hi.min(0x7F) {
        others_of_ascii(c, &mut visit);
    }
    if hi < FIRST_BEYOND_ASCII {
        return;
    }
    let table = &*BEYOND_ASCII;
    let start = table.partition_point(|(c, _)| *c < lo);
    for (_, others) in table[start..].iter().take_while(|(c, _)| *c <= hi) {
        others.iter().copied().for_each(&mut visit);
    }
}

/// The code points that differ from `c` by case only.
pub(super) fn others(c: char) -> Vec<u32> {
    let mut others = Vec::new();
    for_each_in(u32::from(c), u32::from(c), |other| others.push(other));
    others
}

/// Whether `c` differs from another character by case only.
pub(super) fn has_case(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_alphabetic() } else { !others(c).is_empty() }
}

fn others_of_ascii(c: u32, visit: &mut impl FnMut(u32)) {
    let Some(letter) = u8::try_from(c).ok().filter(u8::is_ascii_alphabetic) else { return };
    visit(u32::from(letter ^ 0x20));
    match letter | 0x20 {
        b'k' => visit(0x212A),
        b's' => visit(0x017F),
        _ => {}
    }
}

fn orbits() -> Vec<(u32, Vec<u32>)> {
    let parsed = regex_syntax::parse(r"[\p{CWCF}\p{CWCM}--[\x00-\x7F]]");
    let kind = parsed.map(regex_syntax::hir::Hir::into_kind);
    let Ok(HirKind::Class(HirClass::Unicode(mut candidates))) = kind else { return Vec::new() };
    let known = known();
    candidates.intersect(known);
    let mut orbits = Vec::new();
    for c in candidates.iter().flat_map(|range| range.start()..=range.end()) {
        let mut orbit = ClassUnicode::new([ClassUnicodeRange::new(c, c)]);
        // Without the table of folding there is no orbit, which the tests would tell.
        let _ = orbit.try_case_fold_simple();
        orbit.intersect(known);
        let others: Vec<u32> = orbit
            .iter()
            .flat_map(|range| range.start()..=range.end())
            .filter(|&other| other != c && !is_too_new(c, other))
            .map(u32::from)
            .collect();
        if !others.is_empty() {
            orbits.push((u32::from(c), others));
        }
    }
    orbits
}

fn is_too_new(a: char, b: char) -> bool {
    let (a, b) = (u32::from(a), u32::from(b));
    TOO_NEW.contains(&(a.min(b), a.max(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(c: char, expected: &[char]) {
        let mut got = others(c);
        got.sort_unstable();
        let expected: Vec<u32> = expected.iter().copied().map(u32::from).collect();
        assert_eq!(got, expected, "{c}");
    }

    #[test]
    fn orbits_of_unicode() {
        // Orbits from CaseFolding.txt, statuses C and S.
        check('a', &['A']);
        check('1', &[]);
        check('k', &['K', '\u{212A}']);
        check('\u{212A}', &['K', 'k']);
        check('ſ', &['S', 's']);
        check('µ', &['Μ', 'μ']);
        check('ß', &['ẞ']);
        check('Å', &['å', '\u{212B}']);
        check('σ', &['Σ', 'ς']);
        check('θ', &['Θ', 'ϑ', 'ϴ']);
        check('ǆ', &['Ǆ', 'ǅ']);
        check('İ', &[]);
        check('ı', &[]);
        check('\u{1E943}', &['\u{1E921}']);
        check('\u{1FD3}', &[]);
        check('中', &[]);
    }

    #[test]
    fn no_orbit_is_missed() {
        let known = known();
        for c in known.iter().flat_map(|range| range.start()..=range.end().min('\u{1FFFF}')) {
            let mut orbit = ClassUnicode::new([ClassUnicodeRange::new(c, c)]);
            orbit.try_case_fold_simple().unwrap();
            orbit.intersect(known);
            let all = orbit.iter().map(|range| range.len()).sum::<usize>();
            let too_new = TOO_NEW.iter().any(|&(a, b)| [a, b].contains(&u32::from(c)));
            if !too_new {
                assert_eq!(others(c).len() + 1, all, "{c:?}");
            }
        }
    }
}
