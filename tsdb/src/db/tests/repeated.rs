//! The newest minutes of a series, asked for again and again while it grows.

use super::*;

/// Times as a scraper makes them: mostly even, now and then late, after a pause of 20 minutes even again.
fn times() -> impl Iterator<Item = i64> {
    (0..1_500_i64).map(|i| {
        let late = if i % 37 == 5 { i % 90 } else { 0 };
        let pause = if i > 700 { 20 * MINUTE } else { 0 };
        i * 15_000 + late + pause
    })
}

#[test]
fn the_newest_samples_are_the_same_at_every_question() {
    let db = open(&MemDisk::new());
    let ranges = [MINUTE, 5 * MINUTE, 10 * MINUTE, 29 * MINUTE, HOUR];
    // A counter, one whose digits vary, a constant, and one that changes seldom.
    let value = |series: usize, i: usize| match series {
        0 => (i * 1_000 + i * i % 997) as f64,
        1 => (i as f64).sin(),
        2 => 7.0,
        _ => (i / 50) as f64,
    };
    let mut appended: [Vec<(i64, u64)>; 4] = Default::default();
    for (i, t) in times().enumerate() {
        let mut batch = Batch::new();
        for (series, samples) in appended.iter_mut().enumerate() {
            let v = value(series, i);
            batch.push_new(labels(series), t, v);
            samples.push((t, v.to_bits()));
        }
        assert_eq!(db.append(&batch).unwrap().rejected, []);
        // Not after each, or no window would move on by more than one sample.
        if i % 7 > 2 {
            continue;
        }
        for (which, range) in ranges.into_iter().enumerate() {
            // Longer windows are asked for by themselves for some time, and among the others.
            if i % 500 > 250 && which % 2 == 0 {
                continue;
            }
            let wanted = TimeRange::new(t - range + 1, t);
            let content = content_of(&db, &[], wanted);
            for (series, samples) in appended.iter().enumerate() {
                let from = samples.partition_point(|(t, _)| *t < wanted.min);
                assert_eq!(
                    content[&labels(series).to_string()],
                    samples[from..],
                    "{series} at {t} over {range} ms"
                );
            }
        }
    }
}
