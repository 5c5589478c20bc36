//! Splits a template into text and actions, and actions into tokens.

use super::TemplateError;

const LEFT: &str = "<<";
const RIGHT: &str = ">>";

/// A stretch of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Written as it is.
    Text(String),
    /// What stands between the delimiters.
    Action {
        /// Where it begins.
        offset: usize,
        /// Its words.
        tokens: Vec<Spanned>,
    },
}

/// A token and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spanned {
    pub(super) offset: usize,
    pub(super) token: Token,
}

/// A word of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A keyword, a function, `true`, `false` or `nil`.
    Word(String),
    /// `.`
    Dot,
    /// `.A` or `.A.B`
    Field(Vec<String>),
    /// `$`, `$x` or `$x.A`
    Variable(String, Vec<String>),
    /// A literal.
    String(String),
    /// A literal.
    Int(i64),
    /// `|`
    Pipe,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `:=`
    Declare,
    /// `,`
    Comma,
}

/// Splits `source`.
pub(super) fn pieces(source: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut at = 0;
    let mut trims_next = false;
    loop {
        let left = source[at..].find(LEFT).map(|found| at + found);
        let mut text = &source[at..left.unwrap_or(source.len())];
        if trims_next {
            text = text.trim_start_matches(is_space);
        }
        let Some(left) = left else {
            push_text(&mut pieces, text);
            return Ok(pieces);
        };
        let mut start = left + LEFT.len();
        let mut inner = &source[start..];
        if inner.starts_with('-') && inner[1..].starts_with(is_space) {
            text = text.trim_end_matches(is_space);
            start += 1;
            inner = &source[start..];
        }
        push_text(&mut pieces, text);
        let comment = inner.trim_start_matches(is_space);
        let end = if comment.starts_with("/*") {
            let opened = start + (inner.len() - comment.len());
            let closed = source[opened..].find("*/").map(|found| opened + found + 2);
            closed.ok_or_else(|| TemplateError::at(source, left, "unclosed comment"))?
        } else {
            let mut scanner = Scanner { source, at: start };
            let tokens = scanner.tokens()?;
            if tokens.is_empty() {
                return Err(TemplateError::at(source, left, "missing value for command"));
            }
            pieces.push(Piece::Action { offset: left, tokens });
            scanner.at
        };
        let rest = &source[end..];
        let spaceless = rest.trim_start_matches(is_space);
        trims_next = spaceless.len() < rest.len() && spaceless.starts_with("->>");
        let rest = if trims_next { &spaceless[1..] } else { spaceless };
        let Some(after) = rest.strip_prefix(RIGHT) else {
            return Err(TemplateError::at(source, left, "unclosed action"));
        };
        at = source.len() - after.len();
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(String::from(text)));
    }
}

const fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Reads the tokens of one action.
struct Scanner<'s> {
    source: &'s str,
    at: usize,
}

impl<'s> Scanner<'s> {
    fn left(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn error(&self, reason: impl Into<String>) -> TemplateError {
        TemplateError::at(self.source, self.at, reason)
    }

    fn tokens(&mut self) -> Result<Vec<Spanned>, TemplateError> {
        let mut tokens = Vec::new();
        loop {
            let spaces = self.left().len() - self.left().trim_start_matches(is_space).len();
            let left = &self.left()[spaces..];
            if left.is_empty() {
                return Err(self.error("unclosed action"));
            }
            if left.starts_with(RIGHT) || (spaces > 0 && left.starts_with("->>")) {
                return Ok(tokens);
            }
            self.at += spaces;
            let offset = self.at;
            let token = self.token()?;
            tokens.push(Spanned { offset, token });
        }
    }

    fn token(&mut self) -> Result<Token, TemplateError> {
        let left = self.left();
        let first = left.chars().next().unwrap_or_default();
        match first {
            '|' => Ok(self.take(1, Token::Pipe)),
            '(' => Ok(self.take(1, Token::Open)),
            ')' => Ok(self.take(1, Token::Close)),
            ',' => Ok(self.take(1, Token::Comma)),
            ':' if left.starts_with(":=") => Ok(self.take(2, Token::Declare)),
            '.' => {
                let fields = self.fields()?;
                Ok(if fields.is_empty() { self.take(1, Token::Dot) } else { Token::Field(fields) })
            }
            '$' => {
                self.at += 1;
                let name = self.name();
                let fields = self.fields()?;
                Ok(Token::Variable(name, fields))
            }
            '"' => self.quoted(),
            '`' => self.raw(),
            '0'..='9' | '+' | '-' => self.number(),
            c if is_name(c) => Ok(Token::Word(self.name())),
            c => Err(self.error(format!("unexpected {c:?} in command"))),
        }
    }

    const fn take(&mut self, bytes: usize, token: Token) -> Token {
        self.at += bytes;
        token
    }

    fn name(&mut self) -> String {
        let left = self.left();
        let end = left.find(|c| !is_name(c)).unwrap_or(left.len());
        self.at += end;
        String::from(&left[..end])
    }

    /// `.A.B`; nothing is taken when no name follows the dot.
    fn fields(&mut self) -> Result<Vec<String>, TemplateError> {
        let mut fields = Vec::new();
        while let Some(after) = self.left().strip_prefix('.') {
            if !after.starts_with(is_name) {
                if fields.is_empty() {
                    break;
                }
                return Err(self.error("unexpected \".\" in operand"));
            }
            self.at += 1;
            fields.push(self.name());
        }
        Ok(fields)
    }

    fn number(&mut self) -> Result<Token, TemplateError> {
        let left = self.left();
        let end = left[1..].find(|c| !is_name(c) && c != '.').map_or(left.len(), |end| end + 1);
        let text = &left[..end];
        let number = text.parse().map_err(|_| {
            self.error(format!(
                "{text:?} is not a whole number, the only numbers that are understood"
            ))
        })?;
        Ok(self.take(end, Token::Int(number)))
    }

    fn raw(&mut self) -> Result<Token, TemplateError> {
        let left = self.left();
        let Some(end) = left[1..].find('`') else {
            return Err(self.error("unterminated raw quoted string"));
        };
        let text = String::from(&left[1..=end]);
        Ok(self.take(end + 2, Token::String(text)))
    }

    fn quoted(&mut self) -> Result<Token, TemplateError> {
        let left = self.left();
        let mut text = String::new();
        let mut characters = left.char_indices().skip(1);
        while let Some((offset, c)) = characters.next() {
            match c {
                '"' => return Ok(self.take(offset + 1, Token::String(text))),
                '\n' => break,
                '\\' => {
                    let escaped = characters.next().map(|(_, c)| c);
                    text.push(match escaped {
                        Some('n') => '\n',
                        Some('t') => '\t',
                        Some('r') => '\r',
                        Some(c @ ('\\' | '"')) => c,
                        _ => {
                            self.at += offset;
                            return Err(self.error("an escape that is not understood"));
                        }
                    });
                }
                c => text.push(c),
            }
        }
        Err(self.error("unterminated quoted string"))
    }
}
