//! `meta.json`: what a block contains and where it came from.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use chunkenc::Encoding;
use model::{TimeRange, Timestamp};
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::checksums::Checksums;
use super::files::write_atomically;
use crate::disk::{Disk, read_all};

pub(crate) const META_FILE: &str = "meta.json";

/// The file is small; a larger one is not ours.
const META_BYTES_MAX: u64 = 16 << 20;

const VERSION: u32 = 1;

/// Says that all samples of a block came late.
pub(crate) const HINT_OUT_OF_ORDER: &str = "from-out-of-order";

/// Says that all series of a block had ended when it was cut.
pub(crate) const HINT_STALE_SERIES: &str = "from-stale-series";

/// Says that the series of a block were chosen when it was cut.
const HINT_SELECTED_SERIES: &str = "from-selected-series";

/// Hints of blocks that have some of the head's series.
pub(crate) const HINTS_PARTIAL: [&str; 2] = [HINT_STALE_SERIES, HINT_SELECTED_SERIES];

/// The content of `meta.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Meta {
    #[serde(with = "ulid_text")]
    pub(crate) ulid: Ulid,
    /// First time in the block.
    pub(crate) min_time: Timestamp,
    /// First time after the block.
    pub(crate) max_time: Timestamp,
    #[serde(default)]
    pub(crate) stats: Stats,
    #[serde(default)]
    pub(crate) compaction: Compaction,
    pub(crate) version: u32,
    /// What other programs keep here, such as `thanos`; it stays when the file is rewritten.
    #[serde(flatten)]
    pub(crate) other: serde_json::Map<String, serde_json::Value>,
}

/// How much a block contains.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Stats {
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) num_samples: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) num_float_samples: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) num_histogram_samples: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) num_series: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) num_chunks: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) num_tombstones: u64,
}

/// What a block was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Compaction {
    pub(crate) level: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) sources: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) deletable: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) parents: Vec<Parent>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) failed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) hints: Vec<String>,
}

/// A block that this one takes the place of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Parent {
    #[serde(with = "ulid_text")]
    pub(crate) ulid: Ulid,
    pub(crate) min_time: Timestamp,
    pub(crate) max_time: Timestamp,
}

impl Stats {
    /// Counts a chunk of this encoding.
    pub(crate) fn add_chunk(&mut self, encoding: Encoding, chunk: &[u8]) {
        let samples = u64::from(chunkenc::sample_count(encoding, chunk));
        self.num_chunks += 1;
        self.num_samples += samples;
        if encoding.is_histogram() {
            self.num_histogram_samples += samples;
        } else {
            self.num_float_samples += samples;
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The hints of a block made of others. A block with nothing but late samples, or with some of the series, does not say how far the head
/// was written to blocks; so what is late must be so in all parents, and what is partial in any.
fn inherited_hints(parents: &[&Meta]) -> Vec<String> {
    let mut hints = Vec::new();
    if parents.iter().all(|parent| parent.has_hint(HINT_OUT_OF_ORDER)) {
        hints.push(String::from(HINT_OUT_OF_ORDER));
    }
    for partial in HINTS_PARTIAL {
        if parents.iter().any(|parent| parent.has_hint(partial)) {
            hints.push(String::from(partial));
        }
    }
    hints.sort_unstable();
    hints
}

mod ulid_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use ulid::Ulid;

    pub(super) fn serialize<S: Serializer>(ulid: &Ulid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(ulid)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Ulid, D::Error> {
        let text = String::deserialize(from)?;
        Ulid::from_string(&text).map_err(|error| D::Error::custom(format!("{text:?}: {error}")))
    }
}

impl Meta {
    /// Of a block cut from the head, before its content is counted.
    pub(crate) fn of_head(ulid: Ulid, min_time: Timestamp, max_time: Timestamp) -> Self {
        let sources = vec![ulid.to_string()];
        Self {
            ulid,
            min_time,
            max_time,
            stats: Stats::default(),
            compaction: Compaction { level: 1, sources, ..Compaction::default() },
            version: VERSION,
            other: serde_json::Map::new(),
        }
    }

    /// Of a block that takes the place of `parents`, before its content is counted.
    pub(crate) fn of_parents(ulid: Ulid, parents: &[&Self]) -> Self {
        let min_time = parents.iter().map(|parent| parent.min_time).min();
        let max_time = parents.iter().map(|parent| parent.max_time).max();
        let level = parents.iter().map(|parent| parent.compaction.level).max();
        let sources: BTreeSet<&String> =
            parents.iter().flat_map(|parent| &parent.compaction.sources).collect();
        let describe = |parent: &&Self| Parent {
            ulid: parent.ulid,
            min_time: parent.min_time,
            max_time: parent.max_time,
        };
        let compaction = Compaction {
            level: level.unwrap_or(0) + 1,
            sources: sources.into_iter().cloned().collect(),
            parents: parents.iter().map(describe).collect(),
            hints: inherited_hints(parents),
            ..Compaction::default()
        };
        let (min_time, max_time) = (min_time.unwrap_or(0), max_time.unwrap_or(0));
        Self { compaction, ..Self::of_head(ulid, min_time, max_time) }
    }

    /// Of a block that takes the place of `parent` without what was deleted from it. As in Prometheus it counts as new.
    pub(crate) fn of_cleaned(ulid: Ulid, parent: &Self) -> Self {
        let merged = Self::of_parents(ulid, &[parent]);
        let compaction =
            Compaction { level: 1, sources: vec![ulid.to_string()], ..merged.compaction };
        Self { compaction, ..merged }
    }

    /// Whether the block has this hint.
    pub(crate) fn has_hint(&self, hint: &str) -> bool {
        self.compaction.hints.iter().any(|known| known == hint)
    }

    /// Whether it has all that came in order in its span, so that the head goes on at its end.
    pub(crate) fn ends_the_head(&self) -> bool {
        !self.is_out_of_order() && !HINTS_PARTIAL.iter().any(|hint| self.has_hint(hint))
    }

    /// Whether all of it came late.
    pub(crate) fn is_out_of_order(&self) -> bool {
        self.has_hint(HINT_OUT_OF_ORDER)
    }

    /// The times in the block, both ends inside.
    pub(crate) fn range(&self) -> TimeRange {
        TimeRange::new(self.min_time, self.max_time.saturating_sub(1))
    }

    /// What nobody changes in a block that exists, in one form.
    pub(crate) fn essentials(&self) -> Vec<u8> {
        let compaction = Compaction { failed: false, deletable: false, ..self.compaction.clone() };
        let essentials = Self {
            stats: Stats { num_tombstones: 0, ..self.stats.clone() },
            compaction,
            other: serde_json::Map::new(),
            ..self.clone()
        };
        essentials.encode()
    }

    /// The file, indented with tabs as Prometheus does.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
        self.serialize(&mut serializer).expect("keys are strings and memory takes what is written");
        bytes
    }

    fn decode(bytes: &[u8]) -> io::Result<Self> {
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
        let meta: Self = serde_json::from_slice(bytes).map_err(|e| invalid(e.to_string()))?;
        if meta.version != VERSION {
            return Err(invalid(format!("version {} is not {VERSION}", meta.version)));
        }
        Ok(meta)
    }

    /// Reads the file of the block in `dir`.
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Self> {
        Ok(Self::read_with_bytes(disk, dir)?.0)
    }

    /// Reads the file of the block in `dir`; what it says, and its bytes.
    pub(crate) fn read_with_bytes(disk: &dyn Disk, dir: &Path) -> io::Result<(Self, Vec<u8>)> {
        let bytes = read_all(disk, &dir.join(META_FILE), META_BYTES_MAX)?;
        Ok((Self::decode(&bytes)?, bytes))
    }

    /// Writes the file in a folder that is not in use yet; its bytes.
    pub(crate) fn write_new(&self, disk: &dyn Disk, dir: &Path) -> io::Result<Vec<u8>> {
        let bytes = self.encode();
        let file = disk.create(&dir.join(META_FILE))?;
        file.write_at(&bytes, 0)?;
        file.sync()?;
        Ok(bytes)
    }

    /// Replaces the file of the block in `dir`, and what its checksums say about it.
    pub(crate) fn replace(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let bytes = self.encode();
        write_atomically(disk, &dir.join(META_FILE), &bytes)?;
        Checksums::update_meta(disk, dir, self, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemDisk;

    #[test]
    fn what_prometheus_writes_is_read() {
        // Copied from a folder of Prometheus 2.42, with a field added as Thanos does.
        let text = r#"{
	"ulid": "01HVZ8M9K5W2N3Q4R5S6T7V8W9",
	"minTime": 1700000000000, "maxTime": 1700006400000,
	"stats": { "numSamples": 12, "numSeries": 3, "numChunks": 3 },
	"compaction": { "level": 2, "sources": ["01HVZ8M9K5W2N3Q4R5S6T7V8W9"],
		"parents": [{"ulid": "01HVZ8M9K5W2N3Q4R5S6T7V8WA", "minTime": 1, "maxTime": 2}] },
	"version": 1,
	"thanos": { "labels": {} }
}"#;
        let disk = MemDisk::new();
        disk.create(Path::new("/meta.json")).unwrap().write_at(text.as_bytes(), 0).unwrap();
        let meta = Meta::read(&disk, Path::new("/")).unwrap();
        assert_eq!((meta.stats.num_series, meta.compaction.level), (3, 2));
        assert_eq!(meta.compaction.parents[0].max_time, 2);
        assert_eq!(meta.range(), TimeRange::new(1_700_000_000_000, 1_700_006_399_999));
        assert!(meta.other.contains_key("thanos"));
        meta.replace(&disk, Path::new("/")).unwrap();
        assert_eq!(Meta::read(&disk, Path::new("/")).unwrap(), meta);
    }

    #[test]
    fn other_versions_are_refused() {
        let disk = MemDisk::new();
        let text = br#"{"ulid":"01HVZ8M9K5W2N3Q4R5S6T7V8W9","minTime":1,"maxTime":2,"version":2}"#;
        disk.create(Path::new("/meta.json")).unwrap().write_at(text, 0).unwrap();
        let error = Meta::read(&disk, Path::new("/")).unwrap_err();
        assert_eq!(error.to_string(), "version 2 is not 1");
    }
}
