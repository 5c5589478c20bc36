//! `meta.json`: what a block contains and where it came from.

use std::io;
use std::path::{Path, PathBuf};

use model::{TimeRange, Timestamp};
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::disk::{Disk, read_all};

pub(crate) const META_FILE: &str = "meta.json";

/// The file is small; a larger one is not ours.
const META_BYTES_MAX: u64 = 16 << 20;

const VERSION: u32 = 1;

/// The content of `meta.json`. Fields of later versions and of other tools are ignored.
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &u64) -> bool {
    *count == 0
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
        }
    }

    /// The times in the block, both ends inside.
    pub(crate) fn range(&self) -> TimeRange {
        TimeRange::new(self.min_time, self.max_time.saturating_sub(1))
    }

    /// Reads the file of the block in `dir`.
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Self> {
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
        let bytes = read_all(disk, &dir.join(META_FILE), META_BYTES_MAX)?;
        let meta: Self = serde_json::from_slice(&bytes).map_err(|e| invalid(e.to_string()))?;
        if meta.version != VERSION {
            return Err(invalid(format!("version {} is not {VERSION}", meta.version)));
        }
        Ok(meta)
    }

    /// Writes the file durably, indented with tabs as Prometheus does.
    pub(crate) fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<(), (PathBuf, io::Error)> {
        let path = dir.join(META_FILE);
        let mut bytes = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
        let serialized = self.serialize(&mut serializer).map_err(io::Error::other);
        let written = serialized.and_then(|()| {
            let file = disk.create(&path)?;
            file.write_at(&bytes, 0)?;
            file.sync()
        });
        written.map_err(|error| (path, error))
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
        meta.write(&disk, Path::new("/")).unwrap();
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
