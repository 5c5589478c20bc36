//! Operators between operands, by precedence and associativity.
//!
//! Operands and operators wait on explicit stacks, so that neither a long chain nor a long row of signs
//! costs call stack; how high a tree may grow is bounded instead, for those who walk it.

use super::error::ParseErrorKind;
use super::token::{NESTING_MAX, Parsed, Refusal, Token, TokenKind, Tokens};
use crate::ast::{BinaryOp, Span};

/// Binary operators in a row within a duration, as in `[1 + 2 + 3]`, counted along any path through it.
///
/// Whoever recurses over a duration without further ado, as the compiler's `Drop`, recurses as deep as this. Expressions have no such bound: all
/// that is done with them takes left operands in a loop.
pub const HEIGHT_MAX: usize = 2_000;

/// A tree with its measures. Boxed, since it is passed through many hands before it finds its place.
#[derive(Debug)]
pub(super) struct Tree<T> {
    pub(super) root: Box<T>,
    /// Steps down to the farthest leaf.
    height: usize,
    /// The same, but steps to left operands are free.
    depth: usize,
}

impl<T> Tree<T> {
    /// A tree of one node.
    pub(super) fn leaf(root: T) -> Self {
        Self { root: Box::new(root), height: 0, depth: 0 }
    }

    /// The tree as a left operand that is not free.
    pub(super) fn nested(self) -> Self {
        Self { depth: self.depth + 1, ..self }
    }

    /// Puts a node over the tree.
    pub(super) fn wrap<U>(
        self,
        input: &Tokens<'_>,
        span: Span,
        over: impl FnOnce(Box<T>) -> U,
    ) -> Result<Tree<U>, Refusal> {
        let tree = Tree {
            root: Box::new(over(self.root)),
            height: self.height + 1,
            depth: self.depth + 1,
        };
        tree.bounded(input, span)
    }

    /// Puts a node over two trees.
    pub(super) fn join<U>(
        left: Self,
        right: Self,
        input: &Tokens<'_>,
        span: Span,
        over: impl FnOnce(Box<T>, Box<T>) -> U,
    ) -> Result<Tree<U>, Refusal> {
        let height = left.height.max(right.height) + 1;
        let depth = left.depth.max(right.depth + 1);
        let tree = Tree { root: Box::new(over(left.root, right.root)), height, depth };
        tree.bounded(input, span)
    }

    /// Puts a node over any number of trees.
    pub(super) fn gather<U>(
        trees: Vec<Self>,
        input: &Tokens<'_>,
        span: Span,
        over: impl FnOnce(Vec<T>) -> U,
    ) -> Result<Tree<U>, Refusal> {
        let height = trees.iter().map(|tree| tree.height + 1).max().unwrap_or_default();
        let depth = trees.iter().map(|tree| tree.depth + 1).max().unwrap_or_default();
        let root = Box::new(over(trees.into_iter().map(|tree| *tree.root).collect()));
        Tree { root, height, depth }.bounded(input, span)
    }

    fn bounded(self, input: &Tokens<'_>, span: Span) -> Result<Self, Refusal> {
        if self.depth > NESTING_MAX {
            return Err(input.refuse(span, ParseErrorKind::TooDeep { levels_max: NESTING_MAX }));
        }
        Ok(self)
    }

    /// The tree, if it is not too high.
    pub(super) fn low(self, input: &Tokens<'_>, span: Span) -> Result<Self, Refusal> {
        if self.height > HEIGHT_MAX {
            return Err(input.refuse(span, ParseErrorKind::TooTall { operators_max: HEIGHT_MAX }));
        }
        Ok(self)
    }
}

/// An operator with what stands beside it.
pub(super) trait Infix {
    /// The operator.
    fn op(&self) -> BinaryOp;
}

/// A language of operands and operators.
pub(super) trait Grammar {
    /// What operands are, and what operators make of them.
    type Node;
    /// An operator between operands.
    type Infix: Infix;

    /// Reads an operand without a sign.
    fn operand<'q>(&self, input: Tokens<'q>) -> Parsed<'q, Tree<Self::Node>>;

    /// The operator that comes next, if there is one.
    fn operator(&self, input: &Tokens<'_>) -> Option<BinaryOp>;

    /// Reads an operator and its modifiers, if there is one.
    fn infix<'q>(&self, input: Tokens<'q>) -> Parsed<'q, Option<Self::Infix>>;

    /// Applies an operator.
    fn join(
        &self,
        input: &Tokens<'_>,
        infix: Self::Infix,
        left: Tree<Self::Node>,
        right: Tree<Self::Node>,
    ) -> Result<Tree<Self::Node>, Refusal>;

    /// Applies a sign.
    fn sign(
        &self,
        input: &Tokens<'_>,
        sign: Sign,
        operand: Tree<Self::Node>,
    ) -> Result<Tree<Self::Node>, Refusal>;
}

/// `+` or `-` before an operand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sign {
    pub(super) negate: bool,
    pub(super) span: Span,
}

impl Sign {
    /// The sign that the token is.
    pub(super) const fn of(token: Token) -> Option<Self> {
        match token.kind {
            TokenKind::Operator(BinaryOp::Add) => Some(Self { negate: false, span: token.span }),
            TokenKind::Operator(BinaryOp::Sub) => Some(Self { negate: true, span: token.span }),
            _ => None,
        }
    }
}

/// An operator whose right operand is not complete.
enum Pending<I> {
    Sign(Sign),
    Infix(I),
}

/// A sign binds like multiplication: `-a ^ b` is `-(a ^ b)`, `-a * b` is `(-a) * b`.
const SIGN_PRECEDENCE: u8 = precedence(BinaryOp::Mul);

const fn precedence(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 1,
        BinaryOp::And | BinaryOp::Unless => 2,
        BinaryOp::Equal
        | BinaryOp::NotEqual
        | BinaryOp::Less
        | BinaryOp::LessOrEqual
        | BinaryOp::Greater
        | BinaryOp::GreaterOrEqual
        | BinaryOp::TrimUpper
        | BinaryOp::TrimLower => 3,
        BinaryOp::Add | BinaryOp::Sub => 4,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Atan2 => 5,
        BinaryOp::Pow => 6,
    }
}

impl<I: Infix> Pending<I> {
    /// Whether it takes the operand between it and `next`.
    fn binds_before(&self, next: BinaryOp) -> bool {
        let own = match self {
            Self::Sign(_) => SIGN_PRECEDENCE,
            Self::Infix(infix) => precedence(infix.op()),
        };
        let next_precedence = precedence(next);
        // Of operators alike, the left goes first, but for `^`.
        own > next_precedence || (own == next_precedence && next != BinaryOp::Pow)
    }
}

/// Reads as many operands with operators between them as there are.
pub(super) fn operators<'q, G: Grammar>(
    grammar: &G,
    mut input: Tokens<'q>,
) -> Parsed<'q, Tree<G::Node>> {
    let mut waiting = Waiting { complete: Vec::new(), pending: Vec::new() };
    loop {
        let unsigned = waiting.take_signs(input)?;
        let (rest, operand) = grammar.operand(unsigned)?;
        match waiting.take_operand(grammar, rest, operand)? {
            (rest, Some(complete)) => return Ok((rest, complete)),
            (rest, None) => input = rest,
        }
    }
}

/// What has been read of a row of operands and operators.
struct Waiting<G: Grammar> {
    /// A left operand for each pending infix.
    complete: Vec<Tree<G::Node>>,
    /// Each with a precedence above that of the one before, or as high and leaning to the right.
    pending: Vec<Pending<G::Infix>>,
}

impl<G: Grammar> Waiting<G> {
    fn take_signs<'q>(&mut self, mut input: Tokens<'q>) -> Result<Tokens<'q>, Refusal> {
        while let Some(sign) = Sign::of(input.next()) {
            self.pending.push(Pending::Sign(sign));
            input = input.advance();
        }
        // Every pending operator will stand over the operand that comes now.
        if self.pending.len() > NESTING_MAX {
            let kind = ParseErrorKind::TooDeep { levels_max: NESTING_MAX };
            return Err(input.refuse(input.next().span, kind));
        }
        Ok(input)
    }

    /// Takes an operand and the operator after it. Without one, all is complete.
    fn take_operand<'q>(
        &mut self,
        grammar: &G,
        input: Tokens<'q>,
        mut operand: Tree<G::Node>,
    ) -> Parsed<'q, Option<Tree<G::Node>>> {
        // What goes before the operator is put together before its modifiers are read, which may be malformed.
        let next = grammar.operator(&input);
        while let Some(top) =
            self.pending.pop_if(|top| next.is_none_or(|next| top.binds_before(next)))
        {
            operand = match top {
                Pending::Sign(sign) => grammar.sign(&input, sign, operand)?,
                Pending::Infix(infix) => {
                    let left = self.complete.pop();
                    let left = left.expect("every pending infix has a left operand");
                    grammar.join(&input, infix, left, operand)?
                }
            };
        }
        let (rest, infix) = grammar.infix(input)?;
        let Some(infix) = infix else { return Ok((rest, Some(operand))) };
        self.complete.push(operand);
        self.pending.push(Pending::Infix(infix));
        Ok((rest, None))
    }
}
