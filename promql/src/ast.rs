//! The syntax tree of a query, with the position of every node.
//!
//! Durations written as expressions (`[5m * 2]`, `offset step()`) stay expressions here and are resolved
//! when the evaluation's step and range are known. Everything else is as written: parentheses are nodes, matchers
//! keep their order.

use std::fmt;

use model::{Matcher, Timestamp};

/// Bytes of the query text, from `start` up to but not including `end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte.
    pub end: usize,
}

impl Span {
    /// What is before the first byte: nothing, but still told apart from what is elsewhere.
    pub(crate) const fn before(self) -> Self {
        Self { start: self.start, end: self.start }
    }
}

/// The four types of PromQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// One number.
    Scalar,
    /// One string.
    String,
    /// One sample for each of several series.
    Vector,
    /// Samples over a range for each of several series.
    Matrix,
}

impl ValueType {
    /// The name that error messages use.
    #[must_use]
    pub const fn documented(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::String => "string",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
        }
    }

    /// The name that `resultType` of the HTTP API uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::String => "string",
            Self::Vector => "vector",
            Self::Matrix => "matrix",
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.documented())
    }
}

/// A node.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// `1.5`, `0x1f`, `5m` (as seconds), `NaN`
    Number(NumberLiteral),
    /// `"text"`
    String(StringLiteral),
    /// `up{job="x"} offset 5m`
    Vector(VectorSelector),
    /// `up[5m]`
    Matrix(MatrixSelector),
    /// `expr[1h:5m]`
    Subquery(Subquery),
    /// `sum by (job) (expr)`
    Aggregate(Aggregate),
    /// `a + on(x) b`
    Binary(Binary),
    /// `-expr`, `+expr`
    Unary(Unary),
    /// `(expr)`
    Paren(Paren),
    /// `rate(expr)`
    Call(Call),
}

impl Expr {
    /// Where the node stands in the query.
    #[must_use]
    pub const fn span(&self) -> Span {
        match self {
            Self::Number(e) => e.span,
            Self::String(e) => e.span,
            Self::Vector(e) => e.span,
            Self::Matrix(e) => e.span,
            Self::Subquery(e) => e.span,
            Self::Aggregate(e) => e.span,
            Self::Binary(e) => e.span,
            Self::Unary(e) => e.span,
            Self::Paren(e) => e.span,
            Self::Call(e) => e.span,
        }
    }

    /// The type that the node evaluates to, which its shape alone decides.
    #[must_use]
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::Number(_) => ValueType::Scalar,
            Self::String(_) => ValueType::String,
            Self::Vector(_) | Self::Aggregate(_) => ValueType::Vector,
            Self::Matrix(_) | Self::Subquery(_) => ValueType::Matrix,
            Self::Binary(e) => {
                let is_scalar = |operand: &Self| operand.value_type() == ValueType::Scalar;
                let scalars = e.chain().all(|link| {
                    is_scalar(&link.right)
                        && (matches!(*link.left, Self::Binary(_)) || is_scalar(&link.left))
                });
                if scalars { ValueType::Scalar } else { ValueType::Vector }
            }
            Self::Unary(e) => e.expr.value_type(),
            Self::Paren(e) => e.expr.value_type(),
            Self::Call(e) => e.function.returns,
        }
    }

    /// The node inside any number of parentheses.
    #[must_use]
    pub fn unwrap_parens(&self) -> &Self {
        let mut expr = self;
        while let Self::Paren(paren) = expr {
            expr = &paren.expr;
        }
        expr
    }
}

/// A number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NumberLiteral {
    /// Its value.
    pub value: f64,
    /// Written as a duration (`5m`), so printed as one.
    pub is_duration: bool,
    /// Position.
    pub span: Span,
}

/// A string.
#[derive(Clone, Debug, PartialEq)]
pub struct StringLiteral {
    /// Its value, unquoted. Escapes may spell bytes that are not UTF-8; U+FFFD stands for them here.
    pub value: String,
    /// The bytes as spelled, when they are not UTF-8; never the value of a label or its name.
    pub bytes: Option<Box<[u8]>>,
    /// Position.
    pub span: Span,
}

/// An instant vector selector.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSelector {
    /// The name before the braces, if it was written so; it is also among the matchers.
    pub name: Option<String>,
    /// All matchers, the name's included (`__name__="…"` comes last when it stood before the braces).
    pub matchers: Vec<Matcher>,
    /// `offset …` and `@ …`
    pub time: TimeModifiers,
    /// `anchored` or `smoothed`
    pub extension: Option<RangeExtension>,
    /// Position.
    pub span: Span,
}

/// A range vector selector.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSelector {
    /// The selector before the brackets; carries the offset, `@` and extension that follow them.
    pub vector: VectorSelector,
    /// What stands in the brackets; positive.
    pub range: DurationExpr,
    /// Position.
    pub span: Span,
}

/// Extended range selection (experimental).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeExtension {
    /// `anchored`
    Anchored,
    /// `smoothed`
    Smoothed,
}

impl RangeExtension {
    /// The keyword.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anchored => "anchored",
            Self::Smoothed => "smoothed",
        }
    }
}

/// A range of evaluations of an instant expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Subquery {
    /// What is evaluated.
    pub expr: Box<Expr>,
    /// Before the colon.
    pub range: DurationExpr,
    /// After the colon; the evaluation interval when absent.
    pub step: Option<DurationExpr>,
    /// `offset …` and `@ …`
    pub time: TimeModifiers,
    /// Position.
    pub span: Span,
}

/// Which time a selector or subquery looks at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimeModifiers {
    /// `offset …`: how far back; negative looks ahead.
    pub offset: Option<DurationExpr>,
    /// `@ …`
    pub at: Option<At>,
}

/// A fixed evaluation time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum At {
    /// `@ 1609746000`
    Time(Timestamp),
    /// `@ start()`
    Start,
    /// `@ end()`
    End,
}

/// A duration, perhaps to be computed.
#[derive(Clone, Debug, PartialEq)]
pub struct DurationExpr {
    /// What it is.
    pub kind: DurationKind,
    /// Position.
    pub span: Span,
}

/// The forms of a duration.
#[derive(Clone, Debug, PartialEq)]
pub enum DurationKind {
    /// `5m`, and `300` or `-1.5` when that is all: seconds.
    Seconds(f64),
    /// `2` as an operand: seconds or a plain factor, which are the same here, but printed as written.
    Number(f64),
    /// `step()`: the step of the range query, or 0.
    Step,
    /// `range()`: end − start of the query.
    Range,
    /// `-d`
    Negate(Box<DurationExpr>),
    /// `(d)`
    Paren(Box<DurationExpr>),
    /// `a * b`
    Binary {
        /// One of `+ - * / % ^`.
        op: BinaryOp,
        /// Left operand.
        left: Box<DurationExpr>,
        /// Right operand.
        right: Box<DurationExpr>,
    },
    /// `min_of(a, b)`
    Min(Box<DurationExpr>, Box<DurationExpr>),
    /// `max_of(a, b)`
    Max(Box<DurationExpr>, Box<DurationExpr>),
}

/// An aggregation over series.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// Which one.
    pub op: AggregateOp,
    /// `k` of topk, `φ` of quantile, the label name of `count_values`, …
    pub param: Option<Box<Expr>>,
    /// What is aggregated.
    pub expr: Box<Expr>,
    /// `by (…)` or `without (…)`; `without` false and no labels when neither was written.
    pub grouping: Vec<String>,
    /// Whether `grouping` names what to drop.
    pub without: bool,
    /// Position.
    pub span: Span,
}

/// Aggregation operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named as in PromQL")]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    CountValues,
    Quantile,
    Limitk,
    LimitRatio,
}

impl AggregateOp {
    /// All operators with their names.
    pub const ALL: [(Self, &'static str); 14] = [
        (Self::Sum, "sum"),
        (Self::Avg, "avg"),
        (Self::Count, "count"),
        (Self::Min, "min"),
        (Self::Max, "max"),
        (Self::Group, "group"),
        (Self::Stddev, "stddev"),
        (Self::Stdvar, "stdvar"),
        (Self::Topk, "topk"),
        (Self::Bottomk, "bottomk"),
        (Self::CountValues, "count_values"),
        (Self::Quantile, "quantile"),
        (Self::Limitk, "limitk"),
        (Self::LimitRatio, "limit_ratio"),
    ];

    /// The name in PromQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(op, _)| *op == self).map_or("", |(_, name)| name)
    }

    /// Whether it makes one number of the samples of a group, whichever series they are of.
    #[must_use]
    pub const fn folds(self) -> bool {
        !matches!(
            self,
            Self::Topk | Self::Bottomk | Self::CountValues | Self::Limitk | Self::LimitRatio
        )
    }

    /// Whether it takes a parameter.
    #[must_use]
    pub const fn takes_param(self) -> bool {
        matches!(
            self,
            Self::Topk
                | Self::Bottomk
                | Self::CountValues
                | Self::Quantile
                | Self::Limitk
                | Self::LimitRatio
        )
    }
}

/// An operation on two operands.
pub struct Binary {
    /// Which one.
    pub op: BinaryOp,
    /// Left operand.
    pub left: Box<Expr>,
    /// Right operand.
    pub right: Box<Expr>,
    /// `bool`: comparisons give 0 or 1 instead of filtering.
    pub return_bool: bool,
    /// How series of two vectors are paired; `None` when an operand is a scalar.
    pub matching: Option<VectorMatching>,
    /// Position.
    pub span: Span,
}

/// Binary operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named as what they do")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
    Unless,
    /// `</`: keeps the part of histograms below.
    TrimUpper,
    /// `>/`: keeps the part of histograms above.
    TrimLower,
}

impl BinaryOp {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
        }
    }

    /// `== != < <= > >=`
    #[must_use]
    pub const fn is_comparison(self) -> bool {
        matches!(
            self,
            Self::Equal
                | Self::NotEqual
                | Self::Less
                | Self::LessOrEqual
                | Self::Greater
                | Self::GreaterOrEqual
        )
    }

    /// `and or unless`
    #[must_use]
    pub const fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }
}

/// How many series of one side may pair with how many of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cardinality {
    /// No group modifier.
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
    /// Set operators.
    ManyToMany,
}

/// How series of two vectors are paired.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorMatching {
    /// Group modifier.
    pub cardinality: Cardinality,
    /// Labels of `on` or `ignoring`.
    pub labels: Vec<String>,
    /// Whether `labels` came with `on`.
    pub on: bool,
    /// Labels that `group_left`/`group_right` copies from the "one" side.
    pub include: Vec<String>,
    /// `fill_left`, or `fill`: value of a missing left sample (experimental).
    pub fill_left: Option<f64>,
    /// `fill_right`, or `fill`: value of a missing right sample (experimental).
    pub fill_right: Option<f64>,
}

/// A sign before an expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Unary {
    /// Whether it is `-`.
    pub negate: bool,
    /// What it stands before.
    pub expr: Box<Expr>,
    /// Position.
    pub span: Span,
}

/// An expression in parentheses.
#[derive(Clone, Debug, PartialEq)]
pub struct Paren {
    /// What is inside.
    pub expr: Box<Expr>,
    /// Position.
    pub span: Span,
}

/// A function call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Which function.
    pub function: &'static Function,
    /// Arguments as written; optional ones may be missing.
    pub args: Vec<Expr>,
    /// Position.
    pub span: Span,
}

/// The signature of a function.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Name in PromQL.
    pub name: &'static str,
    /// Types of the arguments, optional ones included; the last repeats when `variadic` is not 0.
    pub args: &'static [ValueType],
    /// 0: exactly `args`. n > 0: the last n of `args` may be left out. −1: the last may be left out or repeated
    /// without bound.
    pub variadic: i32,
    /// Type of the result.
    pub returns: ValueType,
    /// Needs `promql-experimental-functions`.
    pub experimental: bool,
}
