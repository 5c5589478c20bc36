//! Text to tree.
//!
//! [`parse`] reads a query, [`parse_selector`] the selectors of `match[]`, [`parse_series`] the name of one
//! series. A query is cut into tokens, the tokens are made into a tree, the types of the tree are checked.
//! All of Prometheus 3.14's language is read; the parts that are behind feature flags there are refused
//! with its message unless [`ParseOptions`] allows them. Nothing is evaluated here.

mod check;
mod duration;
mod error;
mod expr;
mod functions;
mod lex;
mod modifier;
mod number;
mod precedence;
mod selector;
mod series;
#[cfg(test)]
mod tests;
mod token;

use model::Matcher;

use self::token::{Fault, Parsed, Source, TokenKind, Tokens};
use crate::ast::{Expr, Span};
use crate::stack;

pub use self::error::{Bound, ParseError, ParseErrorKind, ParseErrors, Place, Position};
pub use self::functions::{function, functions};
pub use self::precedence::HEIGHT_MAX;
pub use self::series::parse_series;
pub use self::token::NESTING_MAX;

/// Longest query, in bytes.
pub const QUERY_BYTES_MAX: usize = 1 << 20;

/// Which experimental parts of the language are allowed. None are by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParseOptions {
    /// Functions and aggregations marked as experimental (`promql-experimental-functions`).
    pub experimental_functions: bool,
    /// `anchored` and `smoothed` (`promql-extended-range-selectors`).
    pub extended_range_selectors: bool,
    /// `fill`, `fill_left` and `fill_right` (`promql-binop-fill-modifiers`).
    pub binop_fill: bool,
}

impl ParseOptions {
    /// Everything allowed.
    #[must_use]
    pub const fn all() -> Self {
        Self { experimental_functions: true, extended_range_selectors: true, binop_fill: true }
    }
}

/// Reads a query and checks its types.
///
/// The tree is at most [`NESTING_MAX`] high when steps to left operands are not counted.
///
/// # Errors
/// The first syntax error, or all type errors. A text longer than [`QUERY_BYTES_MAX`] is refused unread.
pub fn parse(query: &str, options: &ParseOptions) -> Result<Expr, ParseErrors> {
    stack::with_room_for(query, || parse_here(query, options)).unwrap_or_else(|_| {
        let kind = ParseErrorKind::NoThread;
        Err(ParseError::new(query, Span::default(), kind).into())
    })
}

/// [`parse`] on the caller's stack.
pub(crate) fn parse_here(query: &str, options: &ParseOptions) -> Result<Expr, ParseErrors> {
    let mut expr = read(query, options, |input| {
        if input.kind() == TokenKind::End {
            return Err(input.refuse(Span::default(), ParseErrorKind::NoExpression));
        }
        let (rest, tree) = expr::expression(input)?;
        Ok((rest, *tree.root))
    })?;
    match ParseErrors::from_all(check::check(query, &mut expr)) {
        None => Ok(expr),
        Some(errors) => Err(errors),
    }
}

/// Reads the matchers of a selector such as `up{job="x"}`.
///
/// # Errors
/// Anything but a selector is refused, and so is one that has no matcher which the empty string fails.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseErrors> {
    let selector = read(text, &ParseOptions::default(), selector::vector_selector)?;
    if check::selects(&selector.matchers) {
        Ok(selector.matchers)
    } else {
        Err(ParseError::new(text, selector.span, ParseErrorKind::EmptyMatch).into())
    }
}

/// Applies a grammar rule to all of a text.
fn read<T>(
    text: &str,
    options: &ParseOptions,
    rule: impl for<'q> Fn(Tokens<'q>) -> Parsed<'q, T>,
) -> Result<T, ParseErrors> {
    if text.len() > QUERY_BYTES_MAX {
        let kind = ParseErrorKind::TooLong { bytes: text.len(), bytes_max: QUERY_BYTES_MAX };
        return Err(ParseError::new(text, Span::default(), kind).into());
    }
    let (tokens, lexical) = lex::lex(text);
    let source = Source { query: text, options };
    let input = Tokens::new(&tokens, &source);
    let fault = match rule(input) {
        Ok((rest, value)) if rest.kind() == TokenKind::End => return Ok(value),
        Ok((rest, _)) => Fault::at(rest.next()),
        Err(nom::Err::Error(fault) | nom::Err::Failure(fault)) => fault,
        Err(nom::Err::Incomplete(_)) => Fault::at(input.next()),
    };
    Err(fault.into_error(&input, lexical).into())
}
