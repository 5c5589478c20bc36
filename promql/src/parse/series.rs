//! The name of one series: `up{job="x"}`.

use model::{Labels, METRIC_NAME};
use nom::Parser;
use nom::combinator::opt;

use super::error::{ParseErrorKind, ParseErrors};
use super::selector::braces;
use super::token::{Parsed, TokenKind, Tokens, token, within};
use super::{ParseOptions, read};
use crate::quote::unquote;

const LABEL_SET: &str = "label set";

/// Reads the labels of one series, as they are written in tests: a metric name, labels in braces, or both.
///
/// # Errors
/// Anything else is refused, and so is a label that occurs twice.
pub fn parse_series(text: &str) -> Result<Labels, ParseErrors> {
    read(text, &ParseOptions::default(), series)
}

fn series(input: Tokens<'_>) -> Parsed<'_, Labels> {
    let mut rest = input;
    let mut pairs = Vec::new();
    if input.kind().is_metric_name() {
        let name = String::from(input.text(input.next()));
        pairs.push((String::from(METRIC_NAME), name));
        rest = input.advance();
    }
    let (rest, inside) = if rest.kind() == TokenKind::LeftBrace {
        braces(rest.advance(), LABEL_SET, label)?
    } else if pairs.is_empty() {
        return Err(input.unexpected());
    } else {
        (rest, Vec::new())
    };
    pairs.extend(inside);
    let labels = Labels::from_pairs(pairs)
        .map_err(|error| input.refuse(input.span_to(&rest), ParseErrorKind::Labels(error)))?;
    Ok((rest, labels))
}

/// `name="value"`; a quoted name alone is the metric's.
fn label(input: Tokens<'_>) -> Parsed<'_, (String, String)> {
    let identifier = token(TokenKind::Identifier);
    let (rest, quoted) = opt(token(TokenKind::String)).parse(input)?;
    if let Some(name) = quoted {
        let name = unquote(input.text(name)).text;
        let (rest, assign) = opt(token(TokenKind::Assign)).parse(rest)?;
        if assign.is_none() {
            return Ok((rest, (String::from(METRIC_NAME), name)));
        }
        return value(rest).map(|(rest, value)| (rest, (name, value)));
    }
    let (rest, name) = within(LABEL_SET, "identifier or \"}\"", identifier)(rest)?;
    let (rest, _) = within(LABEL_SET, "\"=\"", token(TokenKind::Assign))(rest)?;
    let (rest, value) = value(rest)?;
    Ok((rest, (String::from(input.text(name)), value)))
}

fn value(input: Tokens<'_>) -> Parsed<'_, String> {
    let (rest, value) = within(LABEL_SET, "string", token(TokenKind::String))(input)?;
    Ok((rest, unquote(input.text(value)).text))
}
