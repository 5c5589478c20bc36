//! `info`: adds the labels of info series, which describe the same target, to series.
//!
//! Info series belong to a series if they agree in the labels that identify a target. Of several info series of one metric the one with
//! the newest sample counts. All this varies from step to step, and the labels of the result with it.

use std::collections::{BTreeSet, HashMap};

use model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher};

use super::block::{Block, Series, Sink, is_absent, is_present};
use super::buffer::Buffer;
use super::evaluator::Evaluator;
use super::failure::{ExecutionError, QueryFailure};
use super::plan::{Info, Selector};
use super::row::Row;
use super::selector;
use super::steps::Steps;
use crate::ast::Span;

/// Labels that identify a target.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// An info series: labels, and the time of the sample that each step sees, in milliseconds.
struct InfoSeries {
    labels: Labels,
    times: Buffer,
}

/// By name and identifying labels.
type Signature = (String, Labels);

fn signature(name: &str, labels: &Labels) -> Signature {
    (String::from(name), labels.only(&IDENTIFYING))
}

/// Hands the series of the input with more labels to `sink`.
///
/// # Errors
/// [`QueryFailure`]
pub(super) fn stream(
    evaluator: &Evaluator<'_>,
    info: &Info<'_>,
    steps: Steps,
    sink: &mut Sink<'_>,
) -> Result<(), QueryFailure> {
    let before = evaluator.samples.held();
    let base = evaluator.collect(&info.input, steps)?;
    // Info series are not enriched themselves.
    let is_info = |series: &Series| {
        let name = series.labels.metric_name();
        info.names.iter().all(|matcher| matcher.matches(name))
    };
    let ignored: Vec<bool> = base.rows().map(|(series, _)| is_info(series)).collect();
    let series = fetch(evaluator, info, &base, &ignored, steps)?;
    let enriched = Enricher::new(info, &base, &ignored, &series).enrich(evaluator, &base, steps)?;
    evaluator.samples.release_to(before, 0);
    evaluator.samples.hold(enriched.samples())?;
    enriched.stream(sink)
}

/// The info series that share a value of an identifying label with any series.
fn fetch(
    evaluator: &Evaluator<'_>,
    info: &Info<'_>,
    base: &Block,
    ignored: &[bool],
    steps: Steps,
) -> Result<Vec<InfoSeries>, QueryFailure> {
    let mut matchers: Vec<Matcher> = Vec::new();
    for name in IDENTIFYING {
        let rows = base.rows().zip(ignored).filter(|(_, ignored)| !**ignored);
        let values: BTreeSet<&str> =
            rows.filter_map(|((series, _), _)| series.labels.get(name)).collect();
        if values.is_empty() {
            continue;
        }
        let pattern: Vec<String> = values.into_iter().map(regex::escape).collect();
        // A pattern too large to be compiled would only have spared some reading.
        matchers.extend(Matcher::new(name, MatchOp::Regex, pattern.join("|")));
    }
    if matchers.is_empty() {
        return Ok(Vec::new());
    }
    matchers.extend(info.data.iter().map(|matcher| (*matcher).clone()));
    matchers.extend(info.names.iter().cloned());
    let (look, span) = (info.look, Span::default());
    let selector = Selector {
        matchers: &matchers,
        look,
        span,
        stats_only: false,
        extension: None,
        projection: None,
        typed: false,
    };
    let mut series = Vec::new();
    selector::stream_sample_times(evaluator, &selector, steps, &mut |found, row| {
        // A histogram says nothing about a target.
        if row.values.iter().any(|t| t.is_nan() && is_present(*t)) {
            return Err(ExecutionError::InfoHistogram(found.labels.to_string()).into());
        }
        let mut times = evaluator.empty_row(steps)?;
        times.copy_from_slice(row.values);
        series.push(InfoSeries { labels: found.labels, times });
        Ok(())
    })?;
    Ok(series)
}

struct Enricher<'a> {
    info: &'a Info<'a>,
    ignored: &'a [bool],
    series: &'a [InfoSeries],
    /// For each series of the input, the signatures under which it looks for info series: one for each info metric.
    wanted: Vec<Vec<Signature>>,
    /// For each info series.
    signatures: Vec<Signature>,
}

impl<'a> Enricher<'a> {
    fn new(
        info: &'a Info<'a>,
        base: &Block,
        ignored: &'a [bool],
        series: &'a [InfoSeries],
    ) -> Self {
        let signatures = series.iter().map(|s| signature(s.labels.metric_name(), &s.labels));
        let signatures: Vec<Signature> = signatures.collect();
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in &signatures {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        let wanted = |labels: &Labels| names.iter().map(|name| signature(name, labels)).collect();
        let wanted = base.rows().map(|(series, _)| wanted(&series.labels)).collect();
        Self { info, ignored, series, wanted, signatures }
    }

    fn enrich(
        &self,
        evaluator: &Evaluator<'_>,
        base: &Block,
        steps: Steps,
    ) -> Result<Block, QueryFailure> {
        let mut result = Block::new(steps.count, evaluator.context)?;
        let mut rows: HashMap<Labels, usize> = HashMap::new();
        let mut absent = evaluator.empty_row(steps)?;
        for step in 0..steps.count {
            evaluator.context.check()?;
            // Where there is nothing to enrich, info series that contradict each other are no error.
            if base.rows().all(|(_, row)| is_absent(row.values[step])) {
                continue;
            }
            let newest = self.newest(step)?;
            for (index, (series, row)) in base.rows().enumerate() {
                if is_absent(row.values[step]) {
                    continue;
                }
                let Some(labels) = self.labels(index, &series.labels, &newest)? else { continue };
                let next = result.len();
                let at = *rows.entry(labels.clone()).or_insert(next);
                if at == next {
                    let series = Series { labels, drop_name: series.drop_name };
                    result.push(series, Row::of(&mut absent))?;
                } else if is_present(result.row(at).values[step]) {
                    return Err(ExecutionError::DuplicateLabels.into());
                }
                result.set(at, step, row);
            }
        }
        Ok(result)
    }

    /// The info series with the newest sample at `step`, by signature.
    fn newest(&self, step: usize) -> Result<HashMap<&Signature, usize>, ExecutionError> {
        let mut newest: HashMap<&Signature, usize> = HashMap::new();
        for (index, signature) in self.signatures.iter().enumerate() {
            let t = self.series[index].times[step];
            if is_absent(t) {
                continue;
            }
            match newest.get(signature).map(|known| (*known, self.series[*known].times[step])) {
                Some((_, known_t)) if known_t > t => {}
                Some((known, known_t)) if known_t == t => {
                    let text = |index: usize| self.series[index].labels.to_string();
                    let (existing, new) = (text(known), text(index));
                    return Err(ExecutionError::DuplicateInfo { existing, new, t });
                }
                _ => {
                    newest.insert(signature, index);
                }
            }
        }
        Ok(newest)
    }

    /// The labels of a series with those of its info series; `None` if it lacks one that is demanded.
    fn labels(
        &self,
        index: usize,
        labels: &Labels,
        newest: &HashMap<&Signature, usize>,
    ) -> Result<Option<Labels>, ExecutionError> {
        if self.ignored[index] {
            return Ok(Some(labels.clone()));
        }
        let data = &self.info.data;
        let mut builder = LabelsBuilder::from_labels(labels);
        let mut added: Vec<(&str, &str)> = Vec::new();
        let mut found = false;
        for signature in &self.wanted[index] {
            let Some(&info) = newest.get(signature) else { continue };
            found = true;
            for label in &self.series[info].labels {
                let asked_for =
                    data.is_empty() || data.iter().any(|matcher| matcher.name() == label.name);
                if label.name == METRIC_NAME || !asked_for {
                    continue;
                }
                if let Some((_, value)) = added.iter().find(|(name, _)| *name == label.name)
                    && *value != label.value
                {
                    return Err(ExecutionError::ConflictingLabel(String::from(label.name)));
                }
                if labels.get(label.name).is_none() {
                    added.push((label.name, label.value));
                    builder.set(label.name, label.value);
                }
            }
        }
        let lacks = !found && data.iter().any(|matcher| !matcher.matches(""));
        Ok((!lacks).then(|| builder.build()))
    }
}
