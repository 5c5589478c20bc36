//! Which new series the head admits when it has a bound of series or bytes.
//!
//! A tenth of a bound is kept for series of the allow-list: those that autoscaling and the metrics APIs need shall find room when an exporter
//! runs wild. Existing series are never refused.

use model::Labels;

use crate::head::Head;
use crate::options::Options;

/// Refs beyond this are not issued. A log that has one is damaged or hostile.
const REF_MAX: u64 = u64::MAX / 2;

/// One part of this many is for the allow-list alone.
const RESERVED_PART: u64 = 10;

/// What a batch may create.
#[derive(Debug)]
pub(super) struct Admission<'a> {
    options: &'a Options,
    /// Series that may be created by anyone, and by the allow-list.
    room: usize,
    room_reserved: usize,
}

impl<'a> Admission<'a> {
    /// For a batch with `label_bytes` of labels of new series.
    pub(super) fn new(head: &Head, options: &'a Options, label_bytes: usize) -> Self {
        let closed = Self { options, room: 0, room_reserved: 0 };
        if !head.labels.has_room(label_bytes) || head.next_ref() >= REF_MAX {
            return closed;
        }
        let (mut room, mut room_reserved) = (usize::MAX, usize::MAX);
        if let Some(max) = options.head_series_max {
            let left =
                |max: u64| usize::try_from(max).unwrap_or(usize::MAX).saturating_sub(head.len());
            (room, room_reserved) = (left(ordinary(max)), left(max));
        }
        if let Some(max) = options.head_bytes_max {
            let bytes = (head.bytes() + label_bytes) as u64;
            if bytes >= ordinary(max) {
                room = 0;
            }
            if bytes >= max {
                room_reserved = 0;
            }
        }
        Self { options, room, room_reserved }
    }

    /// Whether a series may be created beside the `planned` ones.
    pub(super) fn admits(&self, planned: usize, labels: &Labels) -> bool {
        planned < self.room
            || (planned < self.room_reserved
                && self
                    .options
                    .admitted_first
                    .iter()
                    .any(|set| set.iter().all(|matcher| matcher.matches_labels(labels))))
    }
}

/// What of a bound is for everyone.
const fn ordinary(max: u64) -> u64 {
    max - max / RESERVED_PART
}
