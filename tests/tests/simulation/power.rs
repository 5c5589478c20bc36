//! The power goes before every operation of a script.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::Labels;
use parking_lot::Mutex;
use tests::conformance::note;
use tests::faults::seed;
use tests::load::{Point, STEP_MS, Value, mix};
use tsdb::{Disk, Fsync, MemDisk};

use super::account::{Account, After, Content, content};
use super::script::{DATA, Run, Script, append};
use super::{Length, length};

#[test]
fn a_power_cut_at_any_operation_loses_nothing_that_was_durable() {
    let seed = seed("power cuts, fsync in an interval");
    cut_power(seed, Fsync::Grouped);
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged_if_every_batch_is_synced() {
    let seed = seed("power cuts, fsync always");
    cut_power(seed, Fsync::Always);
}

/// How a power cut ends.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// All that was not synced is lost.
    Strict,
    /// Of what was not synced, some is there.
    Random(u64),
}

fn cut_power(seed: u64, fsync: Fsync) {
    let (scripts, steps, cuts) = match length() {
        Length::Short => (1, 64, 1),
        Length::Long => (20, 240, 4),
    };
    let (mut total, mut acknowledged) = (0, 0);
    for number in 0..scripts {
        let seed = if number == 0 { seed } else { mix(seed ^ number) };
        let script = Script::new(seed, steps, fsync);
        let (operations, samples) = cut_power_in(&script, cuts);
        total += operations;
        acknowledged += samples;
    }
    note(&format!(
        "power cuts, {fsync:?}: {scripts} scripts, {total} operations, {acknowledged} samples, {cuts} cuts at each operation"
    ));
}

/// Operations and samples.
fn cut_power_in(script: &Script, cuts: u64) -> (u64, usize) {
    let account = Arc::new(Mutex::new(Script::account()));
    let operations = Arc::new(AtomicU64::new(0));
    let look = {
        let (account, operations, script) =
            (Arc::clone(&account), Arc::clone(&operations), script.clone());
        move |disk: &MemDisk| {
            let nth = operations.fetch_add(1, Ordering::Relaxed);
            let now = account.lock().clone();
            for number in 0..cuts {
                let dice = mix(script.seed ^ mix(nth << 8 | number));
                let cut = if dice.is_multiple_of(4) { Cut::Strict } else { Cut::Random(dice) };
                if let Err(error) = check_cut(&script, &disk.fork_unsynced(), &now, cut) {
                    panic!("seed {}, operation {nth}, {cut:?}: {error}", script.seed);
                }
            }
        }
    };
    let memory = MemDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(super::watched::Watched::new(memory.clone(), look));
    let mut run = Run::new(script, memory, disk, Arc::clone(&account));
    for &action in &script.actions {
        run.perform(action)
            .unwrap_or_else(|error| panic!("seed {}, {action:?}: {error}", script.seed));
    }
    let samples = account.lock().acknowledged();
    (operations.load(Ordering::Relaxed), samples)
}

fn check_cut(script: &Script, disk: &MemDisk, account: &Account, cut: Cut) -> Result<(), String> {
    match cut {
        Cut::Strict => disk.crash(),
        Cut::Random(seed) => disk.crash_at_random(seed),
    }
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let text = |what: &'static str| move |error: &dyn std::fmt::Display| format!("{what}: {error}");
    let db = script.open(&shared).map_err(|error| text("it does not open")(&error))?;
    let mut found = read(&db).map_err(|e| format!("after the cut: {e}"))?;
    account.check(&found, After::PowerLoss)?;
    check_leftovers(disk)?;
    // It goes on.
    let points = next_points(account);
    let refused = append(&db, &points).map_err(|error| text("it takes nothing more")(&error))?;
    if !refused.is_empty() {
        return Err(format!("it refuses {refused:?}"));
    }
    for point in &points {
        let samples = found.entry(point.labels.to_string()).or_default();
        samples.push((point.t, point.value.fingerprint()));
    }
    same(&read(&db).map_err(|e| format!("after an append: {e}"))?, &found, "after an append")?;
    drop(db);
    disk.kill();
    let db = script.open(&shared).map_err(|error| text("it does not open again")(&error))?;
    same(
        &read(&db).map_err(|e| format!("after a second start: {e}"))?,
        &found,
        "after a second start",
    )
}

fn read(db: &tsdb::Db) -> Result<Content, String> {
    let (found, warnings) = content(db).map_err(|error| error.to_string())?;
    if warnings.is_empty() { Ok(found) } else { Err(format!("a query warns: {warnings:?}")) }
}

/// A sample of a series that may be there, and one of a new one.
fn next_points(account: &Account) -> Vec<Point> {
    let t = account.newest().max(0) + STEP_MS;
    let new = Labels::from_pairs([("__name__", "after_the_cut")]).unwrap();
    let known = account.labels().first().cloned();
    let of = |labels| Point { labels, t, value: Value::Float(1.5), is_late: false, stable: None };
    known.into_iter().chain([new]).map(of).collect()
}

fn same(found: &Content, expected: &Content, when: &str) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    for name in found.keys().chain(expected.keys()) {
        let (found, expected) = (found.get(name), expected.get(name));
        if found != expected {
            let missing = expected.into_iter().flatten();
            let missing: Vec<_> =
                missing.filter(|sample| found.is_none_or(|f| !f.contains(sample))).collect();
            let added = found.into_iter().flatten();
            let added: Vec<_> =
                added.filter(|sample| expected.is_none_or(|e| !e.contains(sample))).collect();
            return Err(format!("{when}, {name} lacks {missing:?} and has {added:?} beside"));
        }
    }
    unreachable!("maps that differ do so in a key")
}

/// Nothing unfinished is left in the folder of the store and those of its logs.
pub(super) fn check_leftovers(disk: &MemDisk) -> Result<(), String> {
    for dir in ["", "wal", "wbl", "chunks_head"].map(|name| Path::new(DATA).join(name)) {
        let entries = disk.list(&dir).unwrap_or_default();
        if let Some(entry) = entries.iter().find(|entry| entry.name.contains(".tmp")) {
            return Err(format!("{} is left", dir.join(&entry.name).display()));
        }
    }
    Ok(())
}
