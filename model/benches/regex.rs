//! What it costs to match every value of a label.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::{MatchOp, Matcher};

const VALUES: u64 = 100_000;

/// Expressions as they are in rules and dashboards, by what they are reduced to.
const EXPRESSIONS: [(&str, &str); 13] = [
    ("literal", "app-123-abcde"),
    ("set", "(app-1|app-2|web-3)-(abcde|fghij)"),
    ("set_any_case", "(?i)APP-7-abcde"),
    ("anything", ".*"),
    ("something", ".+"),
    ("prefix", "app-1.*"),
    ("prefix_any_case", "(?i)APP-1.*"),
    ("suffix", ".*-klmno"),
    ("contains", ".*12.*"),
    ("contains_in_order", "app-.*7.*fgh.*"),
    ("alternatives", "app-1.*|.*-klmno|web-.+-abcde"),
    ("prefix_then_class", "app-[0-9]+-[a-e]+"),
    ("automaton", "[a-z]+-[0-9]*7-[a-z]{5}"),
];

fn values() -> Vec<String> {
    let apps = ["app", "web", "db", "cache", "queue"];
    let hashes = ["abcde", "fghij", "klmno", "pqrst"];
    (0..VALUES)
        .zip(apps.iter().cycle())
        .zip(hashes.iter().cycle())
        .map(|((number, app), hash)| format!("{app}-{number}-{hash}"))
        .collect()
}

fn matching(criterion: &mut Criterion) {
    let values = values();
    let mut group = criterion.benchmark_group("regex");
    group.throughput(Throughput::Elements(VALUES));
    for (name, expression) in EXPRESSIONS {
        let matcher = Matcher::new("pod", MatchOp::Regex, expression).expect("a valid expression");
        group.bench_function(name, |bencher| {
            bencher
                .iter(|| values.iter().filter(|value| matcher.matches(black_box(value))).count());
        });
    }
    group.finish();
}

fn compiling(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("regex_new");
    for (name, expression) in EXPRESSIONS {
        group.bench_function(name, |bencher| {
            bencher.iter(|| Matcher::new("pod", MatchOp::Regex, black_box(expression)));
        });
    }
    group.finish();
}

criterion_group!(benches, matching, compiling);
criterion_main!(benches);
