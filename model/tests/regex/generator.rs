//! Random expressions over a small alphabet, and texts that they have a chance to match.

/// A seeded source of expressions and texts.
pub(super) struct Generator {
    state: u64,
}

/// Pieces of literals and classes: cases, orbits of folding, line ends, metacharacters.
const CHARS: [&str; 22] = [
    "a", "b", "c", "A", "B", "k", "K", "\u{212A}", "s", "S", "ſ", "é", "É", "1", "0", "_", "-",
    " ", "\n", "ß", "ẞ", "☺",
];

const ESCAPES: [&str; 40] = [
    r"\d",
    r"\D",
    r"\w",
    r"\W",
    r"\s",
    r"\S",
    r"\b",
    r"\B",
    r"\A",
    r"\z",
    r"\.",
    r"\\",
    r"\n",
    r"\t",
    r"\x41",
    r"\x{e9}",
    r"\141",
    r"\0",
    r"\pL",
    r"\PL",
    r"\p{Lu}",
    r"\p{^Lu}",
    r"\pN",
    r"\p{Greek}",
    r"\P{Latin}",
    r"\p{Any}",
    r"\Qa.b\E",
    r"\Q*",
    r"\Q\E",
    r"\-",
    r"\_",
    r"\Z",
    r"\C",
    r"\1",
    r"\8",
    r"\xg",
    r"\x{}",
    r"\p{Foo}",
    r"\p",
    r"\",
];

const CLASSES: [&str; 40] = [
    "[a]",
    "[^a]",
    "[ab]",
    "[a-c]",
    "[^a-c]",
    "[k]",
    "[^k]",
    "[A-Z]",
    "[^A-Z]",
    "[[]",
    "[]a]",
    "[^]a]",
    "[a-]",
    "[-a]",
    "[a&&b]",
    "[[:alpha:]]",
    "[^[:alpha:]]",
    "[[:^alpha:]]",
    "[[:word:]_]",
    "[[:space:]]",
    r"[\d-b]",
    r"[^\d]",
    r"[\w-]",
    r"[^\s]",
    r"[\pL1]",
    r"[^\pL]",
    r"[\P{Lu}]",
    "[aA]",
    "[kK\u{212A}]",
    "[é-ê]",
    r"[\n]",
    r"[^\n]",
    r"[\x{0}-\x{10FFFF}]",
    r"[^\x00-\x{10FFFF}]",
    "[b-a]",
    "[a",
    "[[:foo:]]",
    r"[a-\d]",
    "[",
    "[]",
];

const REPEATS: [&str; 24] = [
    "*", "+", "?", "*?", "+?", "??", "{0}", "{1}", "{2}", "{2}?", "{0,1}", "{1,2}", "{1,}", "{0,}",
    "{,2}", "{2,1}", "{1001}", "{01}", "{", "{1", "{1,", "**", "+*", "{2}{2}",
];

const FLAGS: [&str; 16] = [
    "(?i)", "(?-s)", "(?m)", "(?U)", "(?i-s)", "(?s)", "(?i:", "(?-s:", "(?m:", "(?U:", "(?:",
    "(?is-U:", "(?)", "(?x)", "(?-)", "(?i",
];

const GAPS: [&str; 8] = [".*", ".+", ".", "(.*)", ".*?", ".{2}", ".{1,}", ".?"];

impl Generator {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next of `0..limit` (SplitMix64).
    fn below(&mut self, limit: usize) -> usize {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(limit).unwrap()).unwrap()
    }

    fn one_of(&mut self, of: &[&'static str]) -> &'static str {
        of[self.below(of.len())]
    }

    pub(super) fn pattern(&mut self) -> String {
        let mut pattern = String::new();
        if self.below(6) == 0 {
            pattern.push_str(self.one_of(&FLAGS[..6]));
        }
        self.alternatives(&mut pattern, 3);
        // Some are broken at random.
        if self.below(12) == 0 {
            let broken = ["(", ")", "[", "\\", "|*", "(?P<n", "(?P<>a)", "(?P=n)", "a)(b", "(?"];
            pattern.push_str(self.one_of(&broken));
        }
        pattern
    }

    fn alternatives(&mut self, pattern: &mut String, depth: usize) {
        let count = [1, 1, 1, 2, 3][self.below(5)];
        for index in 0..count {
            if index > 0 {
                pattern.push('|');
            }
            for _ in 0..self.below(4) {
                self.item(pattern, depth);
            }
        }
    }

    fn item(&mut self, pattern: &mut String, depth: usize) {
        match self.below(20) {
            0..7 => {
                for _ in 0..=self.below(2) {
                    pattern.push_str(self.one_of(&CHARS));
                }
            }
            7 | 8 => {
                // The last ones are errors: rarely.
                let limit = if self.below(8) == 0 { ESCAPES.len() } else { 31 };
                pattern.push_str(self.one_of(&ESCAPES[..limit]));
            }
            9 | 10 => {
                let limit = if self.below(8) == 0 { CLASSES.len() } else { 34 };
                pattern.push_str(self.one_of(&CLASSES[..limit]));
            }
            11 | 12 => pattern.push_str(self.one_of(&GAPS)),
            13 => pattern.push_str(self.one_of(&["^", "$", "^", "$", "}", "]"])),
            14 => {
                let limit = if self.below(8) == 0 { FLAGS.len() } else { 12 };
                let flags = self.one_of(&FLAGS[..limit]);
                pattern.push_str(flags);
                if flags.ends_with(':') {
                    self.group(pattern, depth);
                }
            }
            _ if depth == 0 => pattern.push('a'),
            15 => {
                pattern.push_str(self.one_of(&["(?P<n>", "(?P<m>", "(?P<n_1>"]));
                self.group(pattern, depth);
            }
            _ => {
                pattern.push('(');
                self.group(pattern, depth);
            }
        }
        if self.below(4) == 0 {
            let limit = if self.below(8) == 0 { REPEATS.len() } else { 15 };
            pattern.push_str(self.one_of(&REPEATS[..limit]));
        }
    }

    fn group(&mut self, pattern: &mut String, depth: usize) {
        self.alternatives(pattern, depth.saturating_sub(1));
        pattern.push(')');
    }

    /// Texts of up to six of the characters, and some of their combinations with few of them.
    pub(super) fn texts(&mut self) -> Vec<String> {
        let mut texts = vec![String::new()];
        texts.extend(["a", "k", "\n", "aa", "ab", "1"].map(String::from));
        for index in 0..24 {
            let limit = if index % 2 == 0 { CHARS.len() } else { 5 };
            let count = 1 + self.below(6);
            texts.push((0..count).map(|_| self.one_of(&CHARS[..limit])).collect());
        }
        texts
    }
}
