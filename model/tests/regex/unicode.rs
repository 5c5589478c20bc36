//! Unicode's classes and case, character by character.

use model::{MatchOp, Matcher};
use regex_syntax::hir::{Class, HirKind};

use super::peer::Peer;

/// Characters of the version of Unicode that the oldest peer knows.
const KNOWN: &str = "age=13.0";

/// How many groups the characters with case are put in: two that differ by case only are rarely
/// in the same one.
const GROUPS: usize = 61;

/// The names of categories and scripts, but for those that Go has changed since.
const NAMES: [&str; 46] = [
    "Cc",
    "Cf",
    "Co",
    "L",
    "Ll",
    "Lm",
    "Lo",
    "Lt",
    "Lu",
    "M",
    "Mc",
    "Me",
    "Mn",
    "N",
    "Nd",
    "Nl",
    "No",
    "P",
    "Pc",
    "Pd",
    "Pe",
    "Pf",
    "Pi",
    "Po",
    "Ps",
    "S",
    "Sc",
    "Sk",
    "Sm",
    "So",
    "Z",
    "Zl",
    "Zp",
    "Zs",
    "Arabic",
    "Common",
    "Cyrillic",
    "Greek",
    "Han",
    "Hebrew",
    "Hiragana",
    "Inherited",
    "Katakana",
    "Latin",
    "Mongolian",
    "Thai",
];

/// Their category or script has changed since the version that the oldest peer knows.
const CHANGED: [char; 3] = ['\u{1734}', '\u{16FE2}', '\u{16FE3}'];

/// The characters of a class, by the tables of an independent crate.
fn characters(class: &str) -> Vec<char> {
    let parsed = regex_syntax::parse(&format!(r"[\p{{{class}}}&&\p{{{KNOWN}}}]")).unwrap();
    let HirKind::Class(Class::Unicode(class)) = parsed.into_kind() else {
        panic!("{class} is no class")
    };
    class.iter().flat_map(|range| range.start()..=range.end()).collect()
}

/// The first and the last character of each range of a class.
fn ends(class: &str) -> Vec<char> {
    let all = characters(class);
    let inside = |c: char, by: i64| {
        let neighbour = u32::try_from(i64::from(u32::from(c)) + by).ok().and_then(char::from_u32);
        neighbour.is_some_and(|neighbour| all.binary_search(&neighbour).is_ok())
    };
    all.iter().copied().filter(|&c| !inside(c, -1) || !inside(c, 1)).collect()
}

/// Compares which of `characters` match.
fn check(peer: &Peer, pattern: &str, characters: &[char]) {
    let matcher = Matcher::new("l", MatchOp::Regex, pattern).unwrap();
    let mut buffer = [0; 4];
    let ours: String =
        characters.iter().filter(|c| matcher.matches(c.encode_utf8(&mut buffer))).collect();
    let text: String = characters.iter().collect();
    let rest = peer.ask(pattern, "", &[text]).unwrap().remove(0).replaced;
    let theirs: String = {
        let mut rest = rest.chars().peekable();
        characters.iter().filter(|c| rest.next_if_eq(*c).is_none()).collect()
    };
    assert_eq!(ours, theirs, "{pattern}");
}

#[test]
fn the_peer_agrees_on_classes() {
    let Some(peer) = Peer::start() else { return };
    let mut sample: Vec<char> = ["L", "M", "N", "P", "S", "Z"].into_iter().flat_map(ends).collect();
    sample.extend(
        ["Greek", "Latin", "Arabic", "Han", "Common", "Inherited"].into_iter().flat_map(ends),
    );
    sample.sort_unstable();
    sample.dedup();
    sample.retain(|c| !CHANGED.contains(c));
    for name in NAMES {
        check(&peer, &format!(r"\p{{{name}}}"), &sample);
        check(&peer, &format!(r"[\P{{{name}}}]"), &sample);
    }
}

#[test]
fn the_peer_agrees_on_case() {
    let Some(peer) = Peer::start() else { return };
    let mut cased = characters("CWCM");
    cased.extend(characters("CWCF"));
    cased.extend(['İ', 'ı', '1', 'ŉ', 'ǰ']);
    cased.sort_unstable();
    cased.dedup();
    for group in 0..GROUPS {
        let class: String = cased
            .iter()
            .skip(group)
            .step_by(GROUPS)
            .map(|&c| format!(r"\x{{{:x}}}", u32::from(c)))
            .collect();
        check(&peer, &format!("(?i)[{class}]"), &cased);
        let alternatives = class.replace(r"\x", r"|\x");
        check(&peer, &format!("(?i)(?:{})", &alternatives[1..]), &cased);
    }
    for pattern in [r"(?i)\p{Lu}", r"(?i)\P{Lu}", r"(?i)\p{Greek}", r"(?i)\p{Lt}", r"(?i)\p{Mn}"] {
        check(&peer, pattern, &cased);
    }
}
