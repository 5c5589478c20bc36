//! The groups that are open, and the limits on what has been built.

use super::super::ast::Node;
use super::super::{RegexError, RegexErrorKind};
use super::Flags;
use super::scan::Scanner;

/// How deep nodes may be nested.
const HEIGHT_MAX: usize = 1000;

/// How many instructions Go's compiler may make of an expression.
const INSTRUCTIONS_MAX: u64 = (128 << 20) / 40;

/// A node and what the limits need to know of it.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) node: Node,
    pub(super) height: usize,
    /// How many instructions Go would compile it to.
    instructions: u64,
    /// The product of the counts of nested repetitions, the greatest of all paths.
    counts: u32,
}

impl Expression {
    /// A node without others inside.
    pub(super) fn leaf(node: Node) -> Self {
        Self { node, height: 1, instructions: 1, counts: 1 }
    }

    /// This over and over.
    pub(super) fn repeated(self, min: u32, max: Option<u32>, greedy: bool) -> Self {
        let one = self.instructions;
        let instructions = match max {
            None if min == 0 => one.saturating_add(2),
            None => one.saturating_mul(u64::from(min)).saturating_add(1),
            Some(max) => one.saturating_mul(u64::from(max)).saturating_add(u64::from(max - min)),
        };
        Self {
            node: Node::Repeat { min, max, greedy, sub: Box::new(self.node) },
            height: self.height + 1,
            instructions: instructions.max(1),
            counts: self.counts,
        }
    }

    fn captured(self, index: u32) -> Self {
        Self {
            node: Node::Capture { index, sub: Box::new(self.node) },
            height: self.height + 1,
            instructions: self.instructions.saturating_add(2),
            counts: self.counts,
        }
    }

    /// Joins parts, taking out of each the parts that `inner` finds in it.
    fn joined(
        mut parts: Vec<Self>,
        inner: fn(Node) -> Result<Vec<Node>, Node>,
        join: fn(Vec<Node>) -> Node,
        extra_instructions: u64,
    ) -> Self {
        if parts.len() == 1
            && let Some(only) = parts.pop()
        {
            return only;
        }
        let mut whole = Self { node: Node::Empty, height: 1, instructions: 0, counts: 1 };
        let mut nodes = Vec::with_capacity(parts.len());
        for part in parts {
            let mut height = part.height;
            match inner(part.node) {
                Ok(mut inner) => {
                    height -= 1;
                    nodes.append(&mut inner);
                }
                Err(node) => nodes.push(node),
            }
            whole.height = whole.height.max(height + 1);
            whole.instructions = whole.instructions.saturating_add(part.instructions);
            whole.counts = whole.counts.max(part.counts);
        }
        whole.instructions = whole.instructions.saturating_add(extra_instructions).max(1);
        whole.node = if nodes.is_empty() { Node::Empty } else { join(nodes) };
        whole
    }

    fn check(self, scanner: &Scanner<'_>) -> Result<Self, RegexError> {
        if self.instructions > INSTRUCTIONS_MAX {
            return Err(scanner.error_in_whole(RegexErrorKind::TooLarge));
        }
        if self.height > HEIGHT_MAX {
            return Err(scanner.error_in_whole(RegexErrorKind::NestingDepth));
        }
        Ok(self)
    }
}

/// The groups that are open, innermost last; the outermost is the expression itself.
pub(super) struct Stack {
    groups: Vec<Group>,
}

struct Group {
    /// What holds again after its end.
    flags: Flags,
    /// Its number, if it captures.
    index: Option<u32>,
    alternatives: Vec<Expression>,
    /// What is to be concatenated to the current alternative.
    parts: Vec<Expression>,
}

impl Stack {
    pub(super) fn new(flags: Flags) -> Self {
        let mut stack = Self { groups: Vec::new() };
        stack.open(flags, None);
        stack
    }

    pub(super) fn open(&mut self, flags: Flags, index: Option<u32>) {
        self.groups.push(Group { flags, index, alternatives: Vec::new(), parts: Vec::new() });
    }

    /// Adds to the innermost group.
    ///
    /// The text before the last literal is joined at once, so that a long text is one node: no
    /// operator can reach it any more.
    pub(super) fn push(
        &mut self,
        expression: Expression,
        scanner: &Scanner<'_>,
    ) -> Result<(), RegexError> {
        let expression = expression.check(scanner)?;
        let Some(group) = self.groups.last_mut() else { return Ok(()) };
        group.join_texts();
        group.parts.push(expression);
        Ok(())
    }

    /// Takes what was added last to the current alternative.
    pub(super) fn pop(&mut self) -> Option<Expression> {
        self.groups.last_mut()?.parts.pop()
    }

    /// Multiplies the counts of what was added last; answers whether they are at most `max`.
    pub(super) fn multiply_counts(&mut self, factor: u32, max: u32) -> bool {
        let last = self.groups.last_mut().and_then(|group| group.parts.last_mut());
        last.is_none_or(|last| {
            // What is repeated zero times counts for nothing, whatever is inside.
            last.counts = last.counts.saturating_mul(factor).max(1);
            last.counts <= max
        })
    }

    /// Ends an alternative.
    pub(super) fn alternative(&mut self, scanner: &Scanner<'_>) -> Result<(), RegexError> {
        self.groups.last_mut().map_or(Ok(()), |group| group.end_alternative(scanner))
    }

    /// Ends the innermost group and adds it to the one around; answers the flags that hold again.
    pub(super) fn close(&mut self, scanner: &Scanner<'_>) -> Result<Flags, RegexError> {
        let unexpected = || scanner.error_in_whole(RegexErrorKind::UnexpectedParenthesis);
        let group = self.groups.pop().ok_or_else(unexpected)?;
        let (flags, index) = (group.flags, group.index);
        let expression = group.end(scanner)?;
        if self.groups.is_empty() {
            return Err(unexpected());
        }
        let expression = match index {
            Some(index) => expression.captured(index),
            None => expression,
        };
        self.push(expression, scanner)?;
        Ok(flags)
    }

    /// The whole expression; `None` when a group is still open.
    pub(super) fn finish(
        mut self,
        scanner: &Scanner<'_>,
    ) -> Result<Option<Expression>, RegexError> {
        let Some(group) = self.groups.pop() else { return Ok(None) };
        let expression = group.end(scanner)?;
        Ok(self.groups.is_empty().then_some(expression))
    }
}

impl Group {
    /// Joins the last two parts if both are texts.
    fn join_texts(&mut self) {
        let [.., before, last] = self.parts.as_mut_slice() else { return };
        let (
            Node::Literal { text: joined, folds },
            Node::Literal { text: added, folds: added_folds },
        ) = (&mut before.node, &last.node)
        else {
            return;
        };
        if *folds == *added_folds {
            joined.push_str(added);
            before.instructions = before.instructions.saturating_add(last.instructions);
            self.parts.pop();
        }
    }

    fn end_alternative(&mut self, scanner: &Scanner<'_>) -> Result<(), RegexError> {
        self.join_texts();
        let inner = |node| match node {
            Node::Concat(nodes) => Ok(nodes),
            node => Err(node),
        };
        let parts = std::mem::take(&mut self.parts);
        let whole = Expression::joined(parts, inner, Node::Concat, 0);
        self.alternatives.push(whole.check(scanner)?);
        Ok(())
    }

    fn end(mut self, scanner: &Scanner<'_>) -> Result<Expression, RegexError> {
        self.end_alternative(scanner)?;
        let inner = |node| match node {
            Node::Alternate(nodes) => Ok(nodes),
            node => Err(node),
        };
        let extra = u64::try_from(self.alternatives.len() - 1).unwrap_or(u64::MAX);
        Expression::joined(self.alternatives, inner, Node::Alternate, extra).check(scanner)
    }
}
