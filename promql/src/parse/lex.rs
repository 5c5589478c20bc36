//! Text to tokens.
//!
//! What a character means depends on where it stands: braces hold matchers, brackets hold a duration
//! up to its first number, and a word is an operator, a keyword or a name. Which token may follow which
//! is left to the grammar, but unbalanced brackets are found here, as in Prometheus.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_till, take_while};
use nom::character::complete::{char, multispace0};
use nom::combinator::{not, recognize, value};
use nom::multi::many0_count;
use nom::sequence::{pair, preceded, terminated};
use nom::{IResult, Parser};

use super::error::{ParseError, ParseErrorKind};
use super::number;
use super::token::{Keyword, Token, TokenKind, duration_keyword, keyword};
use crate::ast::{BinaryOp, Span};

/// Cuts `query` into tokens. The last is [`TokenKind::End`], or [`TokenKind::Invalid`] with the error.
pub(super) fn lex(query: &str) -> (Vec<Token>, Option<ParseError>) {
    // A token is rarely shorter than three bytes, spaces counted.
    let mut tokens = Vec::with_capacity(query.len() / 3 + 1);
    let mut lexer = Lexer::new(query);
    loop {
        let found = lexer.token();
        let kind = *found.as_ref().unwrap_or(&TokenKind::Invalid);
        let span = Span { start: lexer.start, end: lexer.at };
        tokens.push(Token { kind, span });
        match found {
            Ok(TokenKind::End) => return (tokens, None),
            Ok(_) => {}
            Err(kind) => {
                let span = Span { start: lexer.start, end: query.len() };
                return (tokens, Some(ParseError::new(query, span, kind)));
            }
        }
    }
}

type Lexed = Result<TokenKind, ParseErrorKind>;

/// The rules of one place in a query.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Outside of braces, and in brackets after the first number.
    Expression,
    /// After `{`.
    Braces,
    /// After `[`, up to the first number.
    Duration,
}

struct Lexer<'q> {
    query: &'q str,
    /// Start of the token being read.
    start: usize,
    /// End of what has been read.
    at: usize,
    place: Place,
    parens_open: usize,
    bracket_open: bool,
    /// Whether a colon, and before it something to stand before a colon, came after `[`.
    colon_seen: bool,
    duration_seen: bool,
}

impl<'q> Lexer<'q> {
    const fn new(query: &'q str) -> Self {
        Self {
            query,
            start: 0,
            at: 0,
            place: Place::Expression,
            parens_open: 0,
            bracket_open: false,
            colon_seen: false,
            duration_seen: false,
        }
    }

    fn token(&mut self) -> Lexed {
        self.skip_blank();
        self.start = self.at;
        match self.place {
            Place::Expression => self.in_expression(),
            Place::Braces => self.in_braces(),
            Place::Duration => self.in_duration(),
        }
    }

    fn rest(&self) -> &'q str {
        &self.query[self.at..]
    }

    /// Moves past white space and comments. In front of a duration there is no comment.
    fn skip_blank(&mut self) {
        let rest = if self.place == Place::Duration {
            multispace0::<_, ()>(self.rest()).map_or(self.rest(), |(rest, _)| rest)
        } else {
            blank(self.rest()).map_or(self.rest(), |(rest, _)| rest)
        };
        self.at = self.query.len() - rest.len();
    }

    /// Moves past `text`, which starts here.
    fn take(&mut self, text: &str, kind: TokenKind) -> Lexed {
        self.at += text.len();
        Ok(kind)
    }

    fn take_char(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn in_expression(&mut self) -> Lexed {
        let Some(c) = self.rest().chars().next() else { return self.end() };
        match c {
            '=' | '!' | '<' | '>' | '+' | '-' | '*' | '/' | '%' | '^' | ',' | '@' => self.symbol(c),
            '0'..='9' => self.number(),
            '.' if self.rest().as_bytes().get(1).is_some_and(u8::is_ascii_digit) => self.number(),
            '"' | '\'' | '`' => self.string(c),
            'a'..='z' | 'A'..='Z' | '_' | ':' if self.bracket_open => self.word_in_brackets(c),
            'a'..='z' | 'A'..='Z' | '_' | ':' => self.word(),
            '(' | ')' => self.parenthesis(c),
            '{' => {
                self.place = Place::Braces;
                self.take("{", TokenKind::LeftBrace)
            }
            '[' if self.bracket_open => Err(ParseErrorKind::BracketInBrackets),
            '[' => {
                self.place = Place::Duration;
                self.bracket_open = true;
                self.colon_seen = false;
                self.take("[", TokenKind::LeftBracket)
            }
            ']' if self.bracket_open => self.right_bracket(),
            ']' => Err(ParseErrorKind::UnopenedBracket),
            c => Err(ParseErrorKind::Character(c)),
        }
    }

    /// A symbol other than a bracket, as long as the rules have one.
    fn symbol(&mut self, c: char) -> Lexed {
        if let Ok((rest, kind)) = symbol(self.rest()) {
            self.at = self.query.len() - rest.len();
            return Ok(kind);
        }
        // `=~`, and `!` before anything but `=`.
        let found = self.rest().chars().nth(1);
        Err(ParseErrorKind::CharacterAfter { after: c, found })
    }

    fn in_braces(&mut self) -> Lexed {
        let rest = self.rest();
        let Some(c) = rest.chars().next() else { return Err(ParseErrorKind::EndInBraces) };
        match c {
            'a'..='z' | 'A'..='Z' | '_' => {
                self.take(leading(rest, is_word_char), TokenKind::Identifier)
            }
            ',' => self.take(",", TokenKind::Comma),
            '"' | '\'' | '`' => self.string(c),
            '=' if rest.starts_with("=~") => self.take("=~", TokenKind::Matches),
            '=' => self.take("=", TokenKind::Assign),
            '!' if rest.starts_with("!~") => self.take("!~", TokenKind::MatchesNot),
            '!' if rest.starts_with("!=") => {
                self.take("!=", TokenKind::Operator(BinaryOp::NotEqual))
            }
            '!' => Err(ParseErrorKind::CharacterAfterNotInBraces(rest.chars().nth(1))),
            '{' => Err(ParseErrorKind::BraceInBraces),
            '}' => {
                self.place = Place::Expression;
                self.take("}", TokenKind::RightBrace)
            }
            c => Err(ParseErrorKind::CharacterInBraces(c)),
        }
    }

    fn in_duration(&mut self) -> Lexed {
        let rest = self.rest();
        let Some(c) = rest.chars().next() else { return Err(ParseErrorKind::EndInDuration) };
        match c {
            ']' => self.right_bracket(),
            ':' => {
                self.at += 1;
                self.start = self.at;
                if !self.duration_seen {
                    return Err(ParseErrorKind::ColonBeforeDuration);
                }
                if self.colon_seen {
                    return Err(ParseErrorKind::RepeatedColon);
                }
                self.start -= 1;
                self.colon_seen = true;
                Ok(TokenKind::Colon)
            }
            '(' | ')' => self.parenthesis(c),
            '+' | '-' | '*' | '/' | '%' | '^' | ',' => self.symbol(c),
            'm' | 'M' | 'r' | 'R' | 's' | 'S' => {
                self.duration_word().ok_or(ParseErrorKind::CharacterInDuration(c))
            }
            '0'..='9' => self.number(),
            '.' if rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit) => self.number(),
            c => Err(ParseErrorKind::CharacterInDuration(c)),
        }
    }

    fn end(&self) -> Lexed {
        if self.parens_open > 0 {
            Err(ParseErrorKind::UnclosedParenthesis)
        } else if self.bracket_open {
            Err(ParseErrorKind::UnclosedBracket)
        } else {
            Ok(TokenKind::End)
        }
    }

    fn parenthesis(&mut self, c: char) -> Lexed {
        self.at += 1;
        if c == '(' {
            self.parens_open += 1;
            return Ok(TokenKind::LeftParen);
        }
        let Some(open) = self.parens_open.checked_sub(1) else {
            self.start = self.at;
            return Err(ParseErrorKind::UnopenedParenthesis);
        };
        self.parens_open = open;
        Ok(TokenKind::RightParen)
    }

    fn right_bracket(&mut self) -> Lexed {
        self.place = Place::Expression;
        self.bracket_open = false;
        self.take("]", TokenKind::RightBracket)
    }

    fn number(&mut self) -> Lexed {
        if self.place == Place::Duration {
            self.place = Place::Expression;
            self.duration_seen = true;
        }
        let (kind, bytes) = number::scan(self.rest());
        let text = &self.rest()[..bytes];
        match kind {
            Some(kind) => self.take(text, kind),
            None => Err(ParseErrorKind::NumberSyntax(String::from(text))),
        }
    }

    /// A word outside of brackets. It may hold colons.
    fn word(&mut self) -> Lexed {
        let word = leading(self.rest(), |c| is_word_char(c) || c == ':');
        self.at += word.len();
        Ok(match keyword(word) {
            // These came late: they are keywords only where nothing else can be meant, so that metrics
            // may be named so.
            Some(TokenKind::Keyword(Keyword::Fill | Keyword::FillLeft | Keyword::FillRight))
                if !is_before_parenthesis(self.rest()) =>
            {
                TokenKind::Identifier
            }
            Some(kind) => kind,
            None if word.contains(':') => TokenKind::MetricIdentifier,
            None => TokenKind::Identifier,
        })
    }

    fn word_in_brackets(&mut self, c: char) -> Lexed {
        match c {
            ':' if self.colon_seen => {
                self.at += 1;
                Err(ParseErrorKind::SecondColon)
            }
            ':' => {
                self.colon_seen = true;
                self.take(":", TokenKind::Colon)
            }
            c => self.duration_word().ok_or(ParseErrorKind::CharacterInBrackets(c)),
        }
    }

    /// One of the words that a duration may hold.
    fn duration_word(&mut self) -> Option<TokenKind> {
        let word = leading(self.rest(), |c| c.is_ascii_alphabetic() || c == '_');
        let kind = duration_keyword(word.to_ascii_lowercase().as_bytes())?;
        self.at += word.len();
        Some(kind)
    }

    fn string(&mut self, quote: char) -> Lexed {
        self.take_char();
        loop {
            match self.take_char() {
                Some(char::REPLACEMENT_CHARACTER) => return Err(ParseErrorKind::InvalidCharacter),
                Some(c) if c == quote => return Ok(TokenKind::String),
                None if quote == '`' => return Err(ParseErrorKind::UnterminatedRawString),
                Some(_) if quote == '`' => {}
                None | Some('\n') => return Err(ParseErrorKind::UnterminatedString),
                Some('\\') => self.escape(quote)?,
                Some(_) => {}
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self, quote: char) -> Result<(), ParseErrorKind> {
        let (digits, radix, value_max) = match self.take_char() {
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\') => return Ok(()),
            Some(c) if c == quote => return Ok(()),
            Some('0'..='7') => {
                self.at -= 1;
                (3, 8, u32::from(u8::MAX))
            }
            Some('x') => (2, 16, u32::from(u8::MAX)),
            Some('u') => (4, 16, u32::from(char::MAX)),
            Some('U') => (8, 16, u32::from(char::MAX)),
            None => return Err(ParseErrorKind::UnterminatedEscape),
            Some(c) => return Err(ParseErrorKind::UnknownEscape(c)),
        };
        let mut value: u32 = 0;
        for _ in 0..digits {
            let c = self.take_char().ok_or(ParseErrorKind::UnterminatedEscape)?;
            let digit = c.to_digit(radix).ok_or(ParseErrorKind::IllegalEscape(c))?;
            // Eight hexadecimal digits fit.
            value = value * radix + digit;
        }
        let is_surrogate = (0xd800..0xe000).contains(&value);
        if value > value_max || is_surrogate {
            return Err(ParseErrorKind::InvalidCodePoint);
        }
        Ok(())
    }
}

/// White space and comments, in any order.
fn blank(input: &str) -> IResult<&str, usize> {
    let comment = recognize(pair(char('#'), take_till(|c| c == '\n' || c == '\r')));
    preceded(multispace0, many0_count(pair(comment, multispace0))).parse(input)
}

/// The symbols outside of braces that mean the same wherever they stand; common ones come first.
fn symbol(input: &str) -> IResult<&str, TokenKind> {
    const fn op(op: BinaryOp) -> TokenKind {
        TokenKind::Operator(op)
    }
    alt((
        value(TokenKind::Comma, char(',')),
        alt((
            value(op(BinaryOp::Add), char('+')),
            value(op(BinaryOp::Sub), char('-')),
            value(op(BinaryOp::Mul), char('*')),
            value(op(BinaryOp::Div), char('/')),
            value(op(BinaryOp::Mod), char('%')),
            value(op(BinaryOp::Pow), char('^')),
        )),
        alt((
            value(op(BinaryOp::Equal), tag("==")),
            value(op(BinaryOp::NotEqual), tag("!=")),
            value(op(BinaryOp::LessOrEqual), tag("<=")),
            value(op(BinaryOp::TrimUpper), tag("</")),
            value(op(BinaryOp::Less), tag("<")),
            value(op(BinaryOp::GreaterOrEqual), tag(">=")),
            value(op(BinaryOp::TrimLower), tag(">/")),
            value(op(BinaryOp::Greater), tag(">")),
        )),
        value(TokenKind::At, char('@')),
        value(TokenKind::Assign, terminated(char('='), not(char('~')))),
    ))
    .parse(input)
}

/// The characters at the start of `text` that are all `accepted`.
fn leading(text: &str, accepted: impl Fn(char) -> bool) -> &str {
    take_while::<_, _, ()>(accepted).parse(text).map_or("", |(_, found)| found)
}

fn is_word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_before_parenthesis(text: &str) -> bool {
    text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('(')
}
