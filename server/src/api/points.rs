//! The points of an answer, whose times are each turned into digits once.

use std::array;

use model::{FloatFormat, SHORT_FLOAT_BYTES, ShortFloat, ShortFloatBuffer, Timestamp, write_float};

use super::json::write_timestamp;

/// Most bytes from one value to the end of the next, and of what is copied for it.
const POINT_BYTES_MAX: usize = TimeTexts::TEXT_BYTES + SHORT_FLOAT_BYTES;
/// Points of which the digits are written before the first is put together, and for which room is made at a time.
const POINTS_AT_A_TIME: usize = 32;

/// Writes points.
#[derive(Debug)]
pub(super) struct Points {
    times: TimeTexts,
}

impl Points {
    /// Room beyond what is written in the end.
    pub(super) const ROOM_BYTES: usize = POINTS_AT_A_TIME * POINT_BYTES_MAX;
    /// What comes after the last value.
    pub(super) const END: &[u8] = b"\"]";

    /// For an answer with series at these times.
    pub(super) fn at<'t>(series: impl Iterator<Item = &'t [Timestamp]>) -> Self {
        let (mut points, mut longest) = (0, &[][..]);
        let (mut oldest, mut newest) = (Timestamp::MAX, Timestamp::MIN);
        for times in series {
            let (Some(first), Some(last)) = (times.first(), times.last()) else { continue };
            (oldest, newest) = (oldest.min(*first), newest.max(*last));
            points += times.len();
            if times.len() > longest.len() {
                longest = times;
            }
        }
        let interval = match longest {
            [first, second, ..] => second.saturating_sub(*first).max(1),
            _ => 1,
        };
        // Series may be there one after the other, each for a part of the time.
        let intervals = newest.saturating_sub(oldest) / interval;
        let times = usize::try_from(intervals).map_or(0, |intervals| intervals.saturating_add(1));
        Self { times: TimeTexts::new(times.min(points), interval) }
    }

    /// Writes `[seconds,"value` for each of `points`, and `"],` between them, and before the first unless it `is_first`, until `out` has at least
    /// `bytes`; one that `is_first` in any case. Gives the number of points written.
    pub(super) fn write(
        &mut self,
        out: &mut Vec<u8>,
        bytes: usize,
        points: (&[Timestamp], &[f64]),
        is_first: bool,
    ) -> usize {
        let (mut times, mut values) = points;
        let mut written = 0;
        if is_first && let ([t, later @ ..], [v, others @ ..]) = points {
            out.extend_from_slice(self.times.text(*t).of_first());
            write_float(out, *v, FloatFormat::Api);
            (times, values, written) = (later, others, 1);
        }
        let mut buffers: [_; POINTS_AT_A_TIME] = array::from_fn(|_| ShortFloatBuffer::default());
        let points = times.chunks(POINTS_AT_A_TIME).zip(values.chunks(POINTS_AT_A_TIME));
        for (times, values) in points {
            if out.len() >= bytes {
                break;
            }
            let mut short = [None; POINTS_AT_A_TIME];
            for ((short, buffer), v) in short.iter_mut().zip(&mut buffers).zip(values) {
                *short = buffer.format(*v, FloatFormat::Api);
            }
            // Put together in place: what a processor has just written in pieces it is slow to read as a whole.
            let mut at = out.len();
            out.resize(at + times.len() * POINT_BYTES_MAX, 0);
            for ((&t, &v), short) in times.iter().zip(values).zip(&short) {
                if at >= bytes {
                    break;
                }
                let Some(room) = out[at..].first_chunk_mut() else { break };
                at += self.put(room, t, v, *short);
                written += 1;
            }
            out.truncate(at);
        }
        written
    }

    /// Puts a point, with the value's short form if it has one, at the start of `room`; its length.
    #[inline]
    fn put(
        &mut self,
        room: &mut [u8; POINT_BYTES_MAX],
        t: Timestamp,
        v: f64,
        short: Option<ShortFloat<'_>>,
    ) -> usize {
        let TimeText { text, len, .. } = self.times.text(t);
        // A copy of a size that is known takes an instruction or two.
        room[..TimeTexts::TEXT_BYTES].copy_from_slice(text);
        match (short, room[*len..].first_chunk_mut()) {
            (Some(short), Some(room)) => len + short.put(room),
            _ => len + put_float(&mut room[*len..], v),
        }
    }
}

/// Puts a value in the format of the API, which needs no more room than a short one; its length.
#[cold]
fn put_float(room: &mut [u8], v: f64) -> usize {
    let mut text = Vec::with_capacity(SHORT_FLOAT_BYTES);
    write_float(&mut text, v, FloatFormat::Api);
    room[..text.len()].copy_from_slice(&text);
    text.len()
}

/// The times of points as they are written after a point, `"],[seconds,"`. Series of one answer have the same times, and digits cost more than the
/// rest of a point.
#[derive(Debug)]
struct TimeTexts {
    /// By the number of the interval that a time is in, as many as a power of two.
    slots: Vec<TimeText>,
    /// Milliseconds, at least 1.
    interval: i64,
    /// Where the next time is expected; behind the last slot is the first.
    next: usize,
}

/// One of [`TimeTexts`].
#[derive(Clone, Copy, Debug)]
struct TimeText {
    t: Timestamp,
    /// 0 where none was written yet.
    len: usize,
    text: [u8; TimeTexts::TEXT_BYTES],
}

impl TimeTexts {
    /// More than an answer has steps.
    const SLOTS_MAX: usize = 1 << 14;
    /// The end of the point before, a bracket, at most sixteen digits with a sign and three decimals, a comma and a quotation mark.
    const TEXT_BYTES: usize = 32;

    /// For points at about so many times, about `interval` milliseconds apart, 1 at least.
    fn new(times: usize, interval: i64) -> Self {
        let vacant = TimeText { t: 0, len: 0, text: [0; Self::TEXT_BYTES] };
        let slots = times.clamp(1, Self::SLOTS_MAX).next_power_of_two();
        Self { slots: vec![vacant; slots], interval, next: 0 }
    }

    #[inline(always)]
    fn text(&mut self, t: Timestamp) -> &TimeText {
        let last = self.slots.len() - 1;
        let expected = &self.slots[self.next & last];
        if expected.t != t || expected.len == 0 {
            self.look_for(t);
        }
        let at = self.next & last;
        self.next = at + 1;
        &self.slots[at]
    }

    /// Goes to the slot of a time that was not expected next.
    #[cold]
    fn look_for(&mut self, t: Timestamp) {
        let last = self.slots.len() - 1;
        let number = t.div_euclid(self.interval).cast_unsigned();
        self.next = usize::try_from(number & last as u64).unwrap_or(0);
        let slot = &mut self.slots[self.next];
        if slot.t != t || slot.len == 0 {
            slot.set(t);
        }
    }
}

impl TimeText {
    /// What separates two points.
    const BETWEEN: &[u8] = b"\"],";

    /// As it is written where there is no point before.
    fn of_first(&self) -> &[u8] {
        &self.text[Self::BETWEEN.len()..self.len]
    }

    fn set(&mut self, t: Timestamp) {
        let mut text = Vec::with_capacity(TimeTexts::TEXT_BYTES);
        text.extend_from_slice(Self::BETWEEN);
        text.push(b'[');
        write_timestamp(&mut text, t);
        text.extend_from_slice(b",\"");
        (self.t, self.len) = (t, text.len());
        self.text[..text.len()].copy_from_slice(&text);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use model::Sample;

    use super::super::json::write_sample;
    use super::*;

    #[test]
    fn points_are_written_as_samples_are() {
        // More times than there are slots, at last.
        let times = (-3_000..3_000_i64).map(|i| i * 15_000 + i % 3 * 7);
        let times: Vec<_> = times.chain([i64::MIN, i64::MAX, 0, -1, 999, 1_000]).collect();
        let values = [
            0.5,
            -0.0,
            7.0,
            -123_456.789_012_345_67,
            -0.000_012_345_678_901_234_567,
            1e300,
            -1.234_567_890_123_456_7e-300,
            -9_007_199_254_740_991.0,
            1e20,
            f64::NAN,
            f64::NEG_INFINITY,
        ];
        let even: Vec<_> = (0..20_000).map(|i| i * 15_000).collect();
        for like in
            [&[][..], &[5], &[7, 7], &[9, 3], &[i64::MIN, i64::MAX], &even[..300], &even, &times]
        {
            let mut points = Points::at(std::iter::once(like));
            let (mut out, mut expected) = (Vec::new(), Vec::new());
            // The same times again and again, with one value and at last with all of them.
            let same = values.map(|v| vec![v; times.len()]);
            let mixed = values.iter().copied().cycle().take(times.len()).collect();
            for values in same.into_iter().chain([mixed]) {
                let is_first = expected.is_empty();
                for (&t, &v) in times.iter().zip(&values) {
                    if !expected.is_empty() {
                        expected.push(b',');
                    }
                    write_sample(&mut expected, Sample { t, v });
                }
                let half = points.write(&mut out, expected.len() / 2, (&times, &values), is_first);
                assert!(out.len() >= expected.len() / 2);
                let rest = (&times[half..], &values[half..]);
                let written = points.write(&mut out, usize::MAX, rest, is_first && half == 0);
                assert_eq!(half + written, times.len());
            }
            out.extend_from_slice(Points::END);
            assert!(out == expected, "{}", like.len());
        }
    }

    #[test]
    fn each_time_of_all_series_has_a_slot() {
        let minutes = |from: i64, to: i64| (from..to).map(|i| i * 60_000).collect::<Vec<_>>();
        let slots = |series: &[&[Timestamp]]| {
            let mut points = Points::at(series.iter().copied());
            let (mut times, mut places) = (BTreeSet::new(), BTreeSet::new());
            for &t in series.iter().copied().flatten() {
                times.insert(t);
                places.insert(std::ptr::from_ref(points.times.text(t)));
            }
            (points.times.slots.len(), times.len() - places.len())
        };
        let (morning, evening) = (minutes(0, 480), minutes(960, 1440));
        assert_eq!(slots(&[&morning, &evening, &[]]), (1024, 416), "no more than points need");
        let all = minutes(200, 1300);
        assert_eq!(slots(&[&morning, &all, &evening]), (2048, 0));
        assert_eq!(slots(&[&[0, 1, 1 << 50]]).0, 4);
        assert_eq!(slots(&[&[i64::MIN, i64::MAX]]).0, 2);
        assert_eq!(slots(&[]).0, 1);
    }
}
