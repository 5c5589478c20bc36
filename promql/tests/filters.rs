//! Of series that a comparison with a number filters away labels are not looked at; nobody can tell.
//!
//! A number that has to be evaluated first is the measure: labels are looked at then.

#![expect(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

mod mixed;
mod store;

use mixed::{ask, store, text};
use model::QueryContext;
use promql::{Engine, EngineOptions, ParseOptions, QueryOptions};

/// `N` stands for a number.
const QUERIES: [&str; 22] = [
    "g > N",
    "N < g",
    "g == N",
    "g != N",
    "N >= c_total",
    "-1 * (g < N)",
    "sum by (b) (g <= N)",
    "{__name__=~\"g|h\"} > N",
    "h > N",
    "rate(c_total[1m]) > N",
    "rate(g[2m]) > N",
    "rate({__name__=~\"c_total|g\"}[2m]) > N",
    "increase({__name__=~\"c_total\"}[2m]) < N",
    "rate(h[2m]) > N",
    "max_over_time({__name__=~\"g|h\"}[2m]) > N",
    "last_over_time(g[1m]) > N",
    "max_over_time(rate(c_total[1m])[5m:30s]) > N",
    "timestamp(g) > N",
    "abs(g > N) or c_total < N",
    "count(g > N) + count(c_total > N > N)",
    "topk(2, g > N) and g > N",
    "absent(g > N)",
];

#[test]
fn filtered_series_need_no_labels() {
    for (seed, delayed_name_removal) in [(1, true), (2, false)] {
        let store = store(seed);
        let parse = ParseOptions::all();
        let options = EngineOptions { delayed_name_removal, parse, ..EngineOptions::default() };
        let engine = Engine::new(options, &telemetry::Registry::new());
        let (options, context) = (QueryOptions::default(), QueryContext::unbounded());
        for times in [(600_000, 45_000, 1), (300_000, 45_000, 27)] {
            for number in ["0", "3", "1000", "1e20", "NaN", "Inf"] {
                for template in QUERIES {
                    let answer = |number: &str| {
                        let query = template.replace('N', number);
                        let mut result = ask(&engine, &store, &query, times, &options, &context);
                        if let Ok(result) = &mut result {
                            result.stats = Default::default();
                            // Positions differ, since the texts of the numbers do.
                            let texts = result.warnings.iter_mut().chain(&mut result.infos);
                            texts.for_each(|text| text.truncate(text.rfind(" (").unwrap()));
                        }
                        text(&result)
                    };
                    let evaluated = answer(&format!("scalar(vector({number}))"));
                    assert_eq!(answer(number), evaluated, "{template} with {number}");
                }
            }
        }
    }
}
