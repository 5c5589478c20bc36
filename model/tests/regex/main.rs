//! Regular expressions mean what they mean in Go.
#![expect(clippy::unwrap_used, reason = "functions of a test are part of it")]

mod generator;
mod peer;
mod table;
mod unicode;

use std::io::Write;

use generator::Generator;
use model::{MatchOp, Matcher, Regex};
use peer::{Answer, Peer};
use table::{ERRORS, EXPANSIONS, MATCHES, NEWER_THAN_THE_PEER};

const PATTERNS: usize = 2500;
const SEED: u64 = 0x5EED;

/// Refers to more groups than most expressions have, and to names.
const REPLACEMENT: &str = "<$0|$1|${2}|$3|${n}|$m|$$|$1x>";

fn matcher(pattern: &str) -> Result<Matcher, String> {
    Matcher::new("l", MatchOp::Regex, pattern).map_err(|error| error.to_string())
}

fn expanded(pattern: &str, template: &str, text: &str) -> Result<Option<String>, String> {
    let regex = Regex::anchored(pattern).map_err(|error| error.to_string())?;
    Ok(regex.captures(text).map(|captures| {
        let mut expanded = String::new();
        captures.expand(template, &mut expanded);
        expanded
    }))
}

#[test]
fn what_is_not_anchored_is_searched_for() {
    for (pattern, text, groups, expected) in [
        ("_total$", "requests_total", 0, Some("_total")),
        ("^container_(.*)_total$", "container_cpu_total", 1, Some("container_cpu_total")),
        ("o(?P<n>l+)", "hello world", 1, None),
        ("l+|(w)(o)", "hello", 2, Some("ll")),
        (".", "\n", 0, None),
    ] {
        let regex = Regex::unanchored(pattern).unwrap();
        assert_eq!(regex.groups(), groups, "{pattern}");
        let whole = regex.captures(text).and_then(|captures| captures.get(0));
        assert_eq!(whole, expected, "{pattern}");
    }
    assert!(Regex::unanchored("a)|(b").is_err());
    assert_ne!(Regex::unanchored("a").unwrap(), Regex::anchored("a").unwrap());
}

#[test]
fn matches() {
    for &(pattern, matching, other) in MATCHES {
        let matcher = matcher(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        let regex = Regex::anchored(pattern).unwrap();
        for (texts, expected) in [(matching, true), (other, false)] {
            for text in texts {
                assert_eq!(matcher.matches(text), expected, "{pattern:?} {text:?}");
                assert_eq!(regex.is_match(text), expected, "{pattern:?} {text:?}");
            }
        }
    }
}

#[test]
fn errors() {
    for &(pattern, expected) in ERRORS {
        assert_eq!(matcher(pattern).unwrap_err(), expected, "{pattern:?}");
    }
}

#[test]
fn expansions() {
    for &(pattern, template, text, expected) in EXPANSIONS {
        let got = expanded(pattern, template, text).unwrap();
        assert_eq!(got.as_deref(), expected, "{pattern:?} {template:?} {text:?}");
    }
}

#[test]
fn matchers_parse_alone_and_relabelling_does_not() {
    // An open quotation swallows what relabelling puts after it.
    assert!(matcher(r"\Qa.b").unwrap().matches("a.b"));
    let swallowed = r"error parsing regexp: missing closing ): `^(?s:\Qa.b)$`";
    assert_eq!(expanded(r"\Qa.b", "", "").unwrap_err(), swallowed);
    // What closes the group around is taken.
    assert_eq!(matcher("a)|(b").unwrap_err(), "error parsing regexp: unexpected ): `a)|(b`");
    let regex = Regex::anchored("a)|(b").unwrap();
    assert!(regex.is_match("ax") && regex.is_match("xb") && !regex.is_match("xax"));
}

#[test]
fn limits() {
    // Go's own tests have these.
    let nested = |open: &str, close: &str, depth: usize| {
        matcher(&format!("{}{}", open.repeat(depth), close.repeat(depth)))
    };
    assert!(nested("(", ")", 999).unwrap().matches(""));
    assert!(nested("(?:", ")*", 999).unwrap().matches(""));
    assert!(nested("(?:", ")", 20_000).unwrap().matches(""));
    assert!(matcher(&format!("({})", "|".repeat(12_345))).unwrap().matches(""));
    for (open, close) in [("(", ")"), ("(?:", ")*"), ("(a|", ")")] {
        let error = nested(open, close, 1000).unwrap_err();
        assert!(error.starts_with("error parsing regexp: expression nests too deeply"), "{error}");
    }
    let too_large = [
        format!("({}){{1000}}", "(xx?)".repeat(1000)),
        "(xx?){1000}".repeat(1000),
        r"\pL".repeat(27_000),
    ];
    for pattern in too_large {
        let error = matcher(&pattern).unwrap_err();
        assert!(error.starts_with("error parsing regexp: expression too large"), "{error:.99}");
    }
}

#[test]
fn deep_groups_are_found() {
    let pattern = format!("{}a{}", "(".repeat(990), ")".repeat(990));
    assert_eq!(expanded(&pattern, "$990", "a").unwrap().as_deref(), Some("a"));
}

#[test]
fn the_peer_agrees_with_the_tables() {
    let Some(peer) = Peer::start() else { return };
    let known = |pattern: &str| !NEWER_THAN_THE_PEER.iter().any(|part| pattern.contains(part));
    for &(pattern, matching, other) in MATCHES.iter().filter(|(pattern, ..)| known(pattern)) {
        for (texts, expected) in [(matching, true), (other, false)] {
            let texts: Vec<_> = texts.iter().copied().map(String::from).collect();
            let answer = peer.ask(&format!("^(?s:{pattern})$"), "", &texts).unwrap();
            for (text, found) in texts.iter().zip(answer) {
                assert_eq!(found.matches, expected, "{pattern:?} {text:?}");
            }
        }
    }
    for &(pattern, expected) in ERRORS.iter().filter(|(pattern, _)| known(pattern)) {
        let texts = [String::new()];
        assert_eq!(peer.ask(pattern, "", &texts).unwrap_err(), expected, "{pattern:?}");
    }
    for &(pattern, template, text, expected) in EXPANSIONS {
        let answer =
            peer.ask(&format!("^(?s:{pattern})$"), template, &[String::from(text)]).unwrap();
        let got = answer[0].matches.then_some(answer[0].replaced.as_str());
        assert_eq!(got, expected, "{pattern:?} {template:?} {text:?}");
    }
}

#[test]
fn the_peer_agrees_on_random_expressions() {
    let Some(peer) = Peer::start() else { return };
    let (mut valid, mut refused, mut matching) = (0, 0, 0);
    let mut generator = Generator::new(SEED);
    for _ in 0..PATTERNS {
        let pattern = generator.pattern();
        let texts = generator.texts();
        // Of matchers Prometheus parses the bare expression, of relabelling the whole one.
        let bare: Answer = peer.ask(&pattern, "", &texts[..1]);
        match (matcher(&pattern), bare) {
            (Err(ours), Err(theirs)) => {
                assert_eq!(ours, theirs, "{pattern:?}");
                refused += 1;
                continue;
            }
            (Ok(_), Err(theirs)) => panic!("{pattern:?} is taken, not {theirs:?}"),
            (Err(ours), Ok(_)) => panic!("{pattern:?} is not taken: {ours}"),
            (Ok(matcher), Ok(_)) => {
                valid += 1;
                matching += compare(&peer, &pattern, &matcher, &texts);
            }
        }
    }
    // The generator must reach all of these.
    let counts = format!("{valid} valid, {refused} refused, {matching} texts matched");
    let _ = writeln!(std::io::stderr(), "{counts}");
    assert!(valid > PATTERNS / 3 && refused > PATTERNS / 20 && matching > PATTERNS, "{counts}");
}

/// Compares a valid expression on texts; answers how many match.
fn compare(peer: &Peer, pattern: &str, matcher: &Matcher, texts: &[String]) -> usize {
    let mut matching = 0;
    let whole = peer.ask(&format!("^(?s:{pattern})$"), REPLACEMENT, texts);
    if let Err(theirs) = &whole {
        assert_eq!(&expanded(pattern, "", "").unwrap_err(), theirs, "{pattern:?}");
    }
    let grouped = whole.is_ok();
    // Only an open quotation is valid on its own but not when wrapped.
    let answer = whole.or_else(|_| peer.ask(&format!(r"^(?s:{pattern}\E)$"), "", texts)).unwrap();
    for (text, found) in texts.iter().zip(answer) {
        assert_eq!(matcher.matches(text), found.matches, "{pattern:?} {text:?}");
        if grouped {
            let got = expanded(pattern, REPLACEMENT, text).unwrap();
            let theirs = found.matches.then_some(found.replaced);
            assert_eq!(got, theirs, "{pattern:?} {text:?}");
        }
        matching += usize::from(found.matches);
    }
    matching
}
