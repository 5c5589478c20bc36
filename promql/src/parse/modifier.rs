//! What stands between an operator and its operands: groupings, matching, fills.

use nom::Parser;
use nom::branch::alt;
use nom::combinator::{cut, map, opt, value};
use nom::sequence::{delimited, pair};

use super::error::ParseErrorKind;
use super::expr::{may_start_expression, number_literal};
use super::precedence::Sign;
use super::token::{Keyword, Parsed, TokenKind, Tokens, token, within};
use crate::ast::{Cardinality, VectorMatching};
use crate::quote::{Unquoted, quoted, quoted_bytes, unquote};

/// `by (…)` or `without (…)`.
#[derive(Debug, Default)]
pub(super) struct Grouping {
    pub(super) labels: Vec<String>,
    pub(super) without: bool,
}

/// What stands after a binary operator.
#[derive(Debug)]
pub(super) struct Modifiers {
    pub(super) return_bool: bool,
    pub(super) matching: VectorMatching,
}

fn keyword<'q>(keyword: Keyword) -> impl Fn(Tokens<'q>) -> Parsed<'q, ()> {
    move |input| token(TokenKind::Keyword(keyword))(input).map(|(rest, _)| (rest, ()))
}

/// The grouping of an aggregation.
pub(super) fn grouping_modifier(input: Tokens<'_>) -> Parsed<'_, Grouping> {
    let without = alt((value(false, keyword(Keyword::By)), value(true, keyword(Keyword::Without))));
    map(pair(without, labels), |(without, labels)| Grouping { labels, without }).parse(input)
}

/// `bool`, then `on` or `ignoring`, then, if one of these came, `group_left` or `group_right`, then fills.
pub(super) fn binary_modifiers(input: Tokens<'_>) -> Parsed<'_, Modifiers> {
    let (input, return_bool) = opt(keyword(Keyword::Bool)).parse(input)?;
    let side = alt((value(true, keyword(Keyword::On)), value(false, keyword(Keyword::Ignoring))));
    let (input, matched) = opt(pair(side, labels)).parse(input)?;
    let is_matched = matched.is_some();
    let (on, matching_labels) = matched.unwrap_or_default();
    let mut matching = VectorMatching {
        cardinality: Cardinality::OneToOne,
        labels: matching_labels,
        on,
        include: Vec::new(),
        fill_left: None,
        fill_right: None,
    };
    let mut input = input;
    if is_matched {
        let (rest, group) = opt(group_modifier).parse(input)?;
        if let Some((cardinality, include)) = group {
            matching.cardinality = cardinality;
            matching.include = include;
        }
        input = rest;
    }
    let (input, ()) = fills(input, &mut matching)?;
    Ok((input, Modifiers { return_bool: return_bool.is_some(), matching }))
}

/// `group_left` or `group_right`, perhaps with labels. A parenthesis that follows is always theirs, and what neither is one nor starts
/// the right operand is taken for a mistake in place of one.
fn group_modifier(input: Tokens<'_>) -> Parsed<'_, (Cardinality, Vec<String>)> {
    let (rest, cardinality) = alt((
        value(Cardinality::ManyToOne, keyword(Keyword::GroupLeft)),
        value(Cardinality::OneToMany, keyword(Keyword::GroupRight)),
    ))
    .parse(input)?;
    if rest.kind() != TokenKind::LeftParen && may_start_expression(rest.kind()) {
        return Ok((rest, (cardinality, Vec::new())));
    }
    let (rest, include) = labels(rest)?;
    Ok((rest, (cardinality, include)))
}

/// `fill (x)`, or `fill_left (x)` and `fill_right (x)` in either order, or one of them.
fn fills<'q>(input: Tokens<'q>, matching: &mut VectorMatching) -> Parsed<'q, ()> {
    let (input, both) = opt(fill(Keyword::Fill)).parse(input)?;
    if both.is_some() {
        matching.fill_left = both;
        matching.fill_right = both;
        return Ok((input, ()));
    }
    let (input, left) = opt(fill(Keyword::FillLeft)).parse(input)?;
    let (input, right) = opt(fill(Keyword::FillRight)).parse(input)?;
    matching.fill_left = left;
    matching.fill_right = right;
    if left.is_none() && right.is_some() {
        let (input, left) = opt(fill(Keyword::FillLeft)).parse(input)?;
        matching.fill_left = left;
        return Ok((input, ()));
    }
    Ok((input, ()))
}

fn fill<'q>(name: Keyword) -> impl FnMut(Tokens<'q>) -> Parsed<'q, f64> {
    move |input| {
        let (rest, ()) = keyword(name)(input)?;
        delimited(
            cut(token(TokenKind::LeftParen)),
            cut(signed_number),
            cut(token(TokenKind::RightParen)),
        )
        .parse(rest)
    }
}

/// A number or a duration, perhaps with one sign.
pub(super) fn signed_number(input: Tokens<'_>) -> Parsed<'_, f64> {
    let sign = Sign::of(input.next());
    let unsigned = if sign.is_some() { input.advance() } else { input };
    let (rest, number) = number_literal(unsigned)?;
    let is_negative = sign.is_some_and(|sign| sign.negate);
    Ok((rest, if is_negative { -number.value } else { number.value }))
}

/// Names of labels in parentheses; the last may have a comma behind it.
fn labels(input: Tokens<'_>) -> Parsed<'_, Vec<String>> {
    const WITHIN: &str = "grouping opts";
    let (mut input, _) = within(WITHIN, "\"(\"", token(TokenKind::LeftParen))(input)?;
    let mut labels = Vec::new();
    while input.kind() != TokenKind::RightParen {
        let (rest, label) = within(WITHIN, "label", label)(input)?;
        labels.push(label);
        input = rest;
        if input.kind() != TokenKind::RightParen {
            (input, _) = within(WITHIN, "\",\" or \")\"", token(TokenKind::Comma))(input)?;
        }
    }
    Ok((input.advance(), labels))
}

fn label(input: Tokens<'_>) -> Parsed<'_, String> {
    let next = input.next();
    let refuse = |quoted| input.refuse(next.span, ParseErrorKind::GroupingLabel(quoted));
    let name = match next.kind {
        TokenKind::String => {
            let Unquoted { text, bytes } = unquote(input.text(next));
            if let Some(bytes) = bytes {
                return Err(refuse(quoted_bytes(&bytes).to_string()));
            }
            text
        }
        kind if kind.is_grouping_label() => String::from(input.text(next)),
        _ => return Err(input.unexpected()),
    };
    if name.is_empty() {
        return Err(refuse(quoted(&name).to_string()));
    }
    Ok((input.advance(), name))
}
