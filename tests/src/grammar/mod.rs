//! Queries drawn from a grammar, over series that have something to say to each part of it.
//!
//! The same choices give the same query. Peers are asked the same, and answers compared; [`FromBytes`] lets a fuzzer choose.

mod choices;
mod data;
mod range;
mod scalar;
mod vector;
mod whole;
mod words;

pub use choices::{Choices, FromBytes, Seeded};
pub use data::{NativeSeriesData, START, STEP_MS, SeriesData, native_series, series};

/// What a query may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// What versions 2.42 and 3 of Prometheus compute alike.
    Common,
    /// All that is stable in version 3.
    Version3,
    /// That, and all that is experimental.
    All,
}

/// Where the times of an evaluation lie. Samples are on neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// On half seconds: the times of queries.
    Half,
    /// On whole seconds: the steps of subqueries.
    Whole,
}

/// A query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Its text.
    pub text: String,
    /// Versions add in different order, or with and without compensation: values are alike, not equal.
    pub is_inexact: bool,
}

/// Draws queries.
pub struct Grammar<'c> {
    choices: &'c mut dyn Choices,
    dialect: Dialect,
    /// Whether `@` may stand next.
    at_allowed: bool,
    /// Evaluations of the innermost expression for each step of the query.
    evaluations: usize,
}

/// Most evaluations of an expression in subqueries, for a step of the query.
const EVALUATIONS_MAX: usize = 400;
/// Most operations one in the other.
const DEPTH: usize = 4;

impl std::fmt::Debug for Grammar<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammar").field("dialect", &self.dialect).finish_non_exhaustive()
    }
}

impl<'c> Grammar<'c> {
    /// Draws queries of `dialect`.
    #[must_use]
    pub fn new(dialect: Dialect, choices: &'c mut dyn Choices) -> Self {
        Self { choices, dialect, at_allowed: true, evaluations: 1 }
    }

    /// A query of instant vector type, mostly. Asked at times on half seconds.
    pub fn query(&mut self) -> Query {
        let depth = [DEPTH, DEPTH - 1, DEPTH - 2, 1][self.below(4)];
        let exact = |text| Query { text, is_inexact: false };
        match self.below(24) {
            0 => exact(self.scalar(2, Phase::Half)),
            1 => exact(self.range(1, Phase::Half)),
            2 if self.is(1, 3) => exact(String::from("\"a string\\n\"")),
            3..6 if self.dialect == Dialect::Common => {
                Query { text: self.inexact(), is_inexact: true }
            }
            6..9 => exact(self.ordered(depth)),
            _ => exact(self.vector(depth, Phase::Half)),
        }
    }

    /// A vector whose order is defined.
    fn ordered(&mut self, depth: usize) -> String {
        match self.below(4) {
            0 => format!("sort({})", self.vector(depth, Phase::Half)),
            1 => format!("sort_desc({})", self.vector(depth, Phase::Half)),
            _ => self.extremes(depth, Phase::Half),
        }
    }
}

#[cfg(test)]
mod tests {
    use promql::{ParseOptions, parse};

    use super::*;

    /// How many of a thousand queries of the dialect parse; the first that does not is shown with why.
    fn check(dialect: Dialect, options: ParseOptions, at_least: usize) {
        let mut refused = Vec::new();
        for number in 0..1_000 {
            let mut choices = Seeded::numbered(1, number);
            let text = Grammar::new(dialect, &mut choices).query().text;
            refused.extend(parse(&text, &options).err().map(|error| format!("{text}: {error}")));
        }
        let parsed = 1_000 - refused.len();
        assert!(parsed >= at_least, "{dialect:?}: {parsed} parse; {:?}", refused.first());
    }

    #[test]
    fn what_is_drawn_are_queries() {
        // A label that is in `on` and in `group_left` is an error, for which there is room.
        check(Dialect::Common, ParseOptions::default(), 985);
        check(Dialect::Version3, ParseOptions::default(), 985);
        check(Dialect::All, ParseOptions::all(), 985);
    }

    #[test]
    fn the_same_choices_draw_the_same_query() {
        let draw = |seed| Grammar::new(Dialect::All, &mut Seeded::new(seed)).query();
        assert!((0..100).all(|seed| draw(seed) == draw(seed)));
        assert_ne!(draw(1), draw(2));
        let none = Grammar::new(Dialect::All, &mut FromBytes::new(&[])).query();
        assert!(parse(&none.text, &ParseOptions::all()).is_ok(), "{none:?}");
    }
}
