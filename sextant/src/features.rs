//! `--enable-feature`: Prometheus's names for what is off unless asked for.

use clap::Args;
use promql::{EngineOptions, ParseOptions};

const EXPERIMENTAL_FUNCTIONS: &str = "promql-experimental-functions";
const EXTENDED_RANGE_SELECTORS: &str = "promql-extended-range-selectors";
const BINOP_FILL: &str = "promql-binop-fill-modifiers";
const DELAYED_NAME_REMOVAL: &str = "promql-delayed-name-removal";
const PER_STEP_STATS: &str = "promql-per-step-stats";
const START_TIMESTAMPS: &str = "use-start-timestamps";
const TYPE_AND_UNIT_LABELS: &str = "type-and-unit-labels";
const EXTRA_SCRAPE_METRICS: &str = "extra-scrape-metrics";

/// Longest name that is shown in full when it is not known.
const NAME_BYTES_MAX: usize = 100;

#[derive(Debug, Args)]
#[command(next_help_heading = "Features")]
pub(crate) struct FeatureFlags {
    /// Features that are off by default, by Prometheus's names, separated by commas; may be repeated.
    /// Acted on: promql-experimental-functions, promql-extended-range-selectors,
    /// promql-binop-fill-modifiers, promql-delayed-name-removal, promql-per-step-stats,
    /// use-start-timestamps, type-and-unit-labels, extra-scrape-metrics. For others a warning says what becomes
    /// of them
    #[arg(
        long = "enable-feature",
        value_name = "NAME",
        value_delimiter = ',',
        env = "SEXTANT_ENABLE_FEATURE"
    )]
    names: Vec<String>,
}

/// What becomes of a feature that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It is switched on.
    Enabled,
    /// It makes no difference, for this reason.
    NoEffect(&'static str),
    /// It does not exist here; what happens instead.
    Missing(&'static str),
}

/// All features of Prometheus 3.14.
const FEATURES: [(&str, Outcome); 28] = {
    use Outcome::{Enabled, Missing, NoEffect};
    const RULES: &str = "no rules are evaluated";
    const OTLP: &str = "there is no OTLP receiver";
    const STARTS: &str = "start timestamps that targets tell are not stored";
    const ALWAYS: &str = "it is always on";
    [
        (EXPERIMENTAL_FUNCTIONS, Enabled),
        (EXTENDED_RANGE_SELECTORS, Enabled),
        (BINOP_FILL, Enabled),
        (DELAYED_NAME_REMOVAL, Enabled),
        (PER_STEP_STATS, Enabled),
        (START_TIMESTAMPS, Enabled),
        (TYPE_AND_UNIT_LABELS, Enabled),
        (EXTRA_SCRAPE_METRICS, Enabled),
        ("promql-duration-expr", NoEffect(ALWAYS)),
        ("ooo-native-histograms", NoEffect(ALWAYS)),
        (
            "exemplar-storage",
            NoEffect("it is always on; storage.exemplars.max_exemplars bounds it"),
        ),
        ("memory-snapshot-on-shutdown", NoEffect(ALWAYS)),
        (
            "native-histograms",
            NoEffect("they are stored and queried in any case, and not read from targets"),
        ),
        ("auto-reload-config", Missing("SIGHUP and /-/reload read the configuration again")),
        ("concurrent-rule-eval", Missing(RULES)),
        ("created-timestamp-zero-ingestion", Missing(STARTS)),
        ("delayed-compaction", Missing("blocks are cut from the head as soon as they are due")),
        ("fast-startup", Missing("scraping starts when the log is replayed")),
        ("histograms-st-encoding", Missing(STARTS)),
        ("metadata-wal-records", Missing("what targets tell of metrics is kept in memory alone")),
        ("old-ui", Missing("there is one front page")),
        ("otlp-deltatocumulative", Missing(OTLP)),
        ("otlp-native-delta-ingestion", Missing(OTLP)),
        ("search-api", Missing("/api/v1/search answers 404")),
        ("st-storage", Missing(STARTS)),
        ("st-synthesis", Missing(STARTS)),
        ("use-uncached-io", Missing("files are written through the page cache")),
        ("xor2-encoding", Missing("float chunks are written as XOR")),
    ]
};

impl FeatureFlags {
    fn is_enabled(&self, name: &str) -> bool {
        self.names.iter().any(|given| given == name)
    }

    /// Switches on what the engine has of them.
    pub(crate) fn apply(&self, options: &mut EngineOptions) {
        options.parse = ParseOptions {
            experimental_functions: self.is_enabled(EXPERIMENTAL_FUNCTIONS),
            extended_range_selectors: self.is_enabled(EXTENDED_RANGE_SELECTORS),
            binop_fill: self.is_enabled(BINOP_FILL),
        };
        options.delayed_name_removal = self.is_enabled(DELAYED_NAME_REMOVAL);
        options.use_start_timestamps = self.is_enabled(START_TIMESTAMPS);
        options.type_and_unit_labels = self.is_enabled(TYPE_AND_UNIT_LABELS);
    }

    /// Whether `stats=all` counts the samples of each step.
    pub(crate) fn per_step_stats(&self) -> bool {
        self.is_enabled(PER_STEP_STATS)
    }

    /// Whether the types of metrics are labels of what is scraped.
    pub(crate) fn type_and_unit_labels(&self) -> bool {
        self.is_enabled(TYPE_AND_UNIT_LABELS)
    }

    /// What holds where the configuration says nothing.
    pub(crate) fn config_defaults(&self) -> config::Defaults {
        config::Defaults { extra_scrape_metrics: self.is_enabled(EXTRA_SCRAPE_METRICS) }
    }

    /// Says what becomes of each.
    pub(crate) fn report(&self) {
        for name in &self.names {
            let known = FEATURES.iter().find(|(feature, _)| feature == name);
            match known.map(|(_, outcome)| outcome) {
                Some(Outcome::Enabled) => tracing::info!("feature {name} enabled"),
                Some(Outcome::NoEffect(why)) => {
                    tracing::warn!("--enable-feature={name} has no effect: {why}");
                }
                Some(Outcome::Missing(instead)) => {
                    tracing::warn!("--enable-feature={name} is not supported: {instead}");
                }
                None => {
                    let shown = &name[..name.floor_char_boundary(NAME_BYTES_MAX)];
                    tracing::warn!("unknown option for --enable-feature: {shown:?}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        features: FeatureFlags,
    }

    fn options(args: &[&str]) -> (EngineOptions, bool) {
        let args = std::iter::once("sextant").chain(args.iter().copied());
        let features = Cli::try_parse_from(args).unwrap().features;
        let mut options = EngineOptions::default();
        features.apply(&mut options);
        (options, features.per_step_stats())
    }

    #[test]
    fn each_name_switches_on_its_part_alone() {
        let none = EngineOptions::default();
        let parse = ParseOptions::default();
        for (name, expected, per_step_stats) in [
            (
                "promql-experimental-functions",
                EngineOptions {
                    parse: ParseOptions { experimental_functions: true, ..parse },
                    ..none.clone()
                },
                false,
            ),
            (
                "promql-extended-range-selectors",
                EngineOptions {
                    parse: ParseOptions { extended_range_selectors: true, ..parse },
                    ..none.clone()
                },
                false,
            ),
            (
                "promql-binop-fill-modifiers",
                EngineOptions { parse: ParseOptions { binop_fill: true, ..parse }, ..none.clone() },
                false,
            ),
            (
                "promql-delayed-name-removal",
                EngineOptions { delayed_name_removal: true, ..none.clone() },
                false,
            ),
            (
                "use-start-timestamps",
                EngineOptions { use_start_timestamps: true, ..none.clone() },
                false,
            ),
            ("promql-per-step-stats", none.clone(), true),
            (
                "type-and-unit-labels",
                EngineOptions { type_and_unit_labels: true, ..none.clone() },
                false,
            ),
            ("nonsense", none, false),
        ] {
            let flag = format!("--enable-feature={name}");
            assert_eq!(options(&[&flag]), (expected, per_step_stats), "{name}");
        }
    }

    #[test]
    fn several_are_separated_by_commas_or_repeated() {
        let expected = EngineOptions {
            parse: ParseOptions::all(),
            delayed_name_removal: true,
            use_start_timestamps: true,
            ..EngineOptions::default()
        };
        let given = options(&[
            "--enable-feature=promql-experimental-functions,promql-delayed-name-removal",
            "--enable-feature=promql-extended-range-selectors,use-start-timestamps",
            "--enable-feature=promql-binop-fill-modifiers,promql-per-step-stats",
        ]);
        assert_eq!(given, (expected, true));
        assert_eq!(options(&[]), (EngineOptions::default(), false));
    }

    #[test]
    fn a_feature_is_listed_once() {
        let names: BTreeSet<_> = FEATURES.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), FEATURES.len());
    }
}
