//! The tokens of a label selector.

/// A token and the text that it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scanned<'a> {
    pub(super) token: Token,
    pub(super) text: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    End,
    Closed,
    Comma,
    DoesNotExist,
    DoubleEquals,
    Equals,
    GreaterThan,
    Identifier,
    In,
    LessThan,
    NotEquals,
    NotIn,
    Open,
    Unknown,
}

fn is_special(byte: u8) -> bool {
    matches!(byte, b'=' | b'!' | b'(' | b')' | b',' | b'>' | b'<')
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Splits a selector into tokens; the last one is [`Token::End`].
pub(super) fn scan(text: &str) -> Vec<Scanned<'_>> {
    let bytes = text.as_bytes();
    let mut scanned = Vec::new();
    let mut at = 0;
    loop {
        while bytes.get(at).is_some_and(|b| is_space(*b)) {
            at += 1;
        }
        let Some(first) = bytes.get(at) else { break };
        let special = is_special(*first);
        let ends = |b: &u8| is_space(*b) || is_special(*b) != special;
        let run = bytes[at..].iter().position(ends).map_or(bytes.len(), |len| at + len);
        let (token, end) = if special {
            operator(&text[at..run]).map_or((Token::Unknown, run), |(token, len)| (token, at + len))
        } else {
            (keyword(&text[at..run]), run)
        };
        scanned.push(Scanned { token, text: &text[at..end] });
        at = end;
    }
    scanned.push(Scanned { token: Token::End, text: "" });
    scanned
}

/// The longest operator that `run` starts with.
fn operator(run: &str) -> Option<(Token, usize)> {
    [
        ("==", Token::DoubleEquals),
        ("!=", Token::NotEquals),
        (")", Token::Closed),
        (",", Token::Comma),
        ("!", Token::DoesNotExist),
        ("=", Token::Equals),
        (">", Token::GreaterThan),
        ("<", Token::LessThan),
        ("(", Token::Open),
    ]
    .iter()
    .find(|(text, _)| run.starts_with(text))
    .map(|(text, token)| (*token, text.len()))
}

fn keyword(text: &str) -> Token {
    match text {
        "in" => Token::In,
        "notin" => Token::NotIn,
        _ => Token::Identifier,
    }
}
