//! Why an expression is refused, in the words of Go's `regexp/syntax`.

/// A regular expression that does not parse or is too large.
///
/// It prints as Go does, which is what clients of the Prometheus API see.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {kind}: `{expression}`")]
pub struct RegexError {
    /// What is wrong.
    pub kind: RegexErrorKind,
    /// The part of the expression at fault.
    pub expression: String,
}

/// What is wrong with a regular expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegexErrorKind {
    /// A range that ends before it starts, or a class nobody knows.
    #[error("invalid character class range")]
    CharRange,
    /// A backslash before something that has no meaning.
    #[error("invalid escape sequence")]
    Escape,
    /// A group name that is empty, unterminated or has other than letters, digits and `_`.
    #[error("invalid named capture")]
    NamedCapture,
    /// `(?` followed by what is neither flags nor a name.
    #[error("invalid or unsupported Perl syntax")]
    PerlOperator,
    /// Two repetitions in a row, as `a**`.
    #[error("invalid nested repetition operator")]
    NestedRepeat,
    /// A count above 1000, on its own or multiplied by those around it, or a range in reverse.
    #[error("invalid repeat count")]
    RepeatCount,
    /// `[` without `]`.
    #[error("missing closing ]")]
    MissingBracket,
    /// `(` without `)`.
    #[error("missing closing )")]
    MissingParenthesis,
    /// A repetition of nothing.
    #[error("missing argument to repetition operator")]
    MissingArgument,
    /// A backslash at the end.
    #[error("trailing backslash at end of expression")]
    TrailingBackslash,
    /// `)` without `(`.
    #[error("unexpected )")]
    UnexpectedParenthesis,
    /// Groups and repetitions more than 1000 deep.
    #[error("expression nests too deeply")]
    NestingDepth,
    /// It would take too much memory.
    #[error("expression too large")]
    TooLarge,
}
