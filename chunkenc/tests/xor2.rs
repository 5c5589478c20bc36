//! XOR2 chunks: bits written out by hand, round trips with start timestamps and stale markers, damage.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use chunkenc::{Encoding, Xor2Chunk, decode};
use model::{Columns, TimeRange, stale_marker};
use proptest::prelude::*;

/// Time, start timestamp, bits of the value.
type Sample = (i64, i64, u64);

fn encoded(samples: &[Sample]) -> Vec<u8> {
    let mut chunk = Xor2Chunk::new();
    for &(t, start, v) in samples {
        chunk.push(t, start, f64::from_bits(v));
    }
    chunk.as_bytes().to_vec()
}

fn decoded(chunk: &[u8]) -> Vec<Sample> {
    let mut columns = Columns::new();
    decode(Encoding::Xor2, chunk, TimeRange::ALL, &mut columns).unwrap();
    (0..columns.len())
        .map(|row| (columns.times()[row], columns.start(row), columns.floats()[row].to_bits()))
        .collect()
}

fn check(samples: &[(i64, i64, f64)], starts: u8, bits: &str) {
    let samples: Vec<_> = samples.iter().map(|&(t, start, v)| (t, start, v.to_bits())).collect();
    let bits: String = bits.chars().filter(|c| matches!(c, '0' | '1')).collect();
    let mut expected = u16::try_from(samples.len()).unwrap().to_be_bytes().to_vec();
    expected.push(starts);
    for byte in bits.as_bytes().chunks(8) {
        let text = std::str::from_utf8(byte).unwrap();
        expected.push(u8::from_str_radix(&format!("{text:0<8}"), 2).unwrap());
    }
    assert_eq!(encoded(&samples), expected, "{samples:?}");
    assert_eq!(decoded(&expected), samples);
}

/// Written out by hand from the description of the format.
#[test]
fn golden_bits() {
    let stale = stale_marker();
    // The zigzag of 1 is 2; 1.0 is 3ff0000000000000. Then delta 15, value unchanged.
    let two = format!("00000010 {:064b} 00001111 0", 1.0_f64.to_bits());
    let of = |more: &[(i64, i64, f64)]| [&[(1, 0, 1.0), (16, 0, 1.0)], more].concat();
    check(&of(&[]), 0, &two);
    // Same step, same value.
    check(&of(&[(31, 0, 1.0)]), 0, &format!("{two} 0"));
    // Same step, 1.0 ^ 2.0 = 7ff0…: a new window behind one more bit; then back within it.
    let changed = "10 1 00001 001011 11111111111";
    check(&of(&[(31, 0, 2.0)]), 0, &format!("{two} {changed}"));
    let back = "10 0 11111111111";
    check(&of(&[(31, 0, 2.0), (46, 0, 1.0)]), 0, &format!("{two} {changed} {back}"));
    // A stale marker at the same step, and that what follows is compared with the value before it.
    let marker = "11111";
    check(&of(&[(31, 0, stale), (46, 0, 1.0)]), 0, &format!("{two} {marker} 0"));
    // Steps that are longer and shorter, in two's complement of 13, 20 and 64 bits.
    for (dod, step) in [
        (4095, "110 0111111111111".to_owned()),
        (-4096, "110 1000000000000".to_owned()),
        (4096, format!("1110 {:020b}", 4096)),
        (-4097, format!("1110 {:020b}", (1 << 20) - 4097)),
        (524_287, format!("1110 {:020b}", 524_287)),
        (-524_288, format!("1110 {:020b}", 1 << 19)),
        (524_288, format!("11110 {:064b}", 524_288)),
    ] {
        check(&of(&[(31 + dod, 0, 1.0)]), 0, &format!("{two} {step} 0"));
        check(&of(&[(31 + dod, 0, stale)]), 0, &format!("{two} {step} 111"));
        let changed = "110 00001 001011 11111111111";
        check(&of(&[(31 + dod, 0, 2.0)]), 0, &format!("{two} {step} {changed}"));
    }
}

#[test]
fn golden_bits_of_start_timestamps() {
    let first = format!("00000010 {:064b}", 1.0_f64.to_bits());
    // 1 - -1 = 2, whose zigzag is 4; it stays, so nothing follows.
    let two = format!("{first} 00000100 00001111 0");
    check(&[(1, -1, 1.0), (16, -1, 1.0)], 0x80, &two);
    // Listed from sample 2: 16 - 12 = 4; then 31 - 31 = 0, 4 less.
    let four = format!("{two} 0 10100 0 110 111100");
    check(&[(1, -1, 1.0), (16, -1, 1.0), (31, 12, 1.0), (46, 31, 1.0)], 0x82, &four);
    // Unknown at first: 1 - 0 = 1 for the second.
    check(&[(1, 0, 1.0), (16, 1, 1.0)], 0x01, &format!("{first} 00001111 0 0"));
}

/// The header has seven bits for the first start that is listed, so at sample 127 listing begins whether it changes or not.
#[test]
fn starts_are_listed_from_sample_127_at_the_latest() {
    let mut samples: Vec<_> = (0..200).map(|i| (i * 15_000, 7, 1.0_f64.to_bits())).collect();
    samples[150].1 = 8;
    let chunk = encoded(&samples);
    assert_eq!(chunk[2], 0xff);
    assert_eq!(decoded(&chunk), samples);
    let chunk = encoded(&samples[..127]);
    assert_eq!(chunk[2], 0x80);
    assert_eq!(decoded(&chunk), &samples[..127]);
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let step = prop_oneof![3 => Just(15_000_i64), 2 => 14_000_i64..16_000, 1 => any::<i64>()];
    let value = prop_oneof![
        3 => Just(1.0_f64.to_bits()),
        3 => (0_u32..1000).prop_map(|v| f64::from(v).to_bits()),
        1 => Just(stale_marker().to_bits()),
        1 => any::<u64>(),
    ];
    let start = prop_oneof![6 => Just(None), 1 => (0_i64..100).prop_map(Some), 1 => any::<i64>().prop_map(Some)];
    prop::collection::vec((step, start, value), 1..200).prop_map(|steps| {
        let (mut t, mut start) = (1_700_000_000_000_i64, 0);
        let mut samples = vec![];
        for (step, new_start, v) in steps {
            t = t.wrapping_add(step);
            start = new_start.unwrap_or(start);
            samples.push((t, start, v));
        }
        samples
    })
}

proptest! {
    #[test]
    fn round_trip(samples in samples()) {
        prop_assert_eq!(decoded(&encoded(&samples)), samples);
    }

    #[test]
    fn a_resumed_chunk_grows_as_if_it_had_never_stopped(
        samples in samples(),
        at in any::<prop::sample::Index>(),
    ) {
        let at = at.index(samples.len()) + 1;
        let mut resumed = Xor2Chunk::resume(&encoded(&samples[..at])).unwrap();
        for &(t, start, v) in &samples[at..] {
            resumed.push(t, start, f64::from_bits(v));
        }
        prop_assert_eq!(resumed.as_bytes(), encoded(&samples));
    }

    #[test]
    fn damage_is_no_panic(
        samples in samples(),
        flips in prop::collection::vec(any::<prop::sample::Index>(), 1..6),
    ) {
        let mut bytes = encoded(&samples);
        for flip in flips {
            let bit = flip.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mut columns = Columns::new();
            let _ = decode(Encoding::Xor2, &bytes, TimeRange::ALL, &mut columns);
            prop_assert!(columns.len() <= usize::from(u16::MAX));
        }
    }
}

// Each case decodes a chunk many times over.
proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_prefix_is_refused(samples in samples()) {
        let bytes = encoded(&samples);
        for len in 0..bytes.len() {
            let result = decode(Encoding::Xor2, &bytes[..len], TimeRange::ALL, &mut Columns::new());
            prop_assert!(result.is_err(), "{} of {} bytes", len, bytes.len());
        }
    }
}
