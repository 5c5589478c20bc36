//! The times of points as an answer writes them, each turned into digits once.

use model::Timestamp;

use super::json::write_timestamp;

/// The times of points as they are written, `[seconds,"`, by where the bits of the time say. Series of one answer have the same times, and digits cost
/// more than the rest of a point.
#[derive(Debug)]
pub(super) struct TimeTexts {
    /// As many as a power of two.
    slots: Vec<TimeText>,
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
    const SLOTS_MAX: usize = 1 << 10;
    /// A bracket, at most sixteen digits with a sign and three decimals, a comma and a quotation mark.
    const TEXT_BYTES: usize = 32;

    /// For an answer with points at about so many times.
    pub(super) fn for_steps(steps: usize) -> Self {
        let vacant = TimeText { t: 0, len: 0, text: [0; Self::TEXT_BYTES] };
        // Most stay empty, so that few times share a slot. An answer at one time needs one.
        let wanted = if steps <= 1 { 1 } else { 4 * steps.min(Self::SLOTS_MAX) };
        let slots = wanted.next_power_of_two().min(Self::SLOTS_MAX);
        Self { slots: vec![vacant; slots] }
    }

    /// Writes `[seconds,"`.
    #[inline]
    pub(super) fn write(&mut self, out: &mut Vec<u8>, t: Timestamp) {
        // Steps are even, so their low bits are alike: the product spreads them.
        let spread = t.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let bits = self.slots.len().trailing_zeros();
        let at = spread.checked_shr(u64::BITS - bits).unwrap_or(0);
        let slot = &mut self.slots[usize::try_from(at).unwrap_or(0)];
        if slot.t != t || slot.len == 0 {
            slot.set(t);
        }
        let end = out.len() + slot.len;
        // A copy of a size that is known takes an instruction or two.
        out.extend_from_slice(&slot.text);
        out.truncate(end);
    }
}

impl TimeText {
    fn set(&mut self, t: Timestamp) {
        let mut text = Vec::with_capacity(TimeTexts::TEXT_BYTES);
        text.push(b'[');
        write_timestamp(&mut text, t);
        text.extend_from_slice(b",\"");
        (self.t, self.len) = (t, text.len());
        self.text[..text.len()].copy_from_slice(&text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_however_many_slots_there_are() {
        for steps in [0, 1, 2, 300, 100_000, usize::MAX] {
            let mut texts = TimeTexts::for_steps(steps);
            for round in 0..2 {
                for step in 0..300 {
                    let (t, mut out) = (1_700_000_000_000 + step * 15_500, b"before ".to_vec());
                    texts.write(&mut out, t);
                    let (seconds, millis) = (t / 1000, t % 1000);
                    let expected = match millis {
                        0 => format!("before [{seconds},\""),
                        _ => format!("before [{seconds}.{millis:03},\""),
                    };
                    assert_eq!(String::from_utf8(out).unwrap(), expected, "{steps} {round}");
                }
            }
        }
    }
}
