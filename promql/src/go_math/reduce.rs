//! Angles as a multiple of π/4 and a rest.

/// Below this, y · A and y · B are exact, y being the multiple.
const THREE_PARTS_MAX: f64 = (1_u64 << 29) as f64;

/// π/4 in three parts, of which the first two end with zeros.
const PARTS: [f64; 3] =
    [0.785_398_125_648_498_5, 3.774_894_707_930_798e-8, 2.695_151_429_079_059_5e-15];

/// 4/π in binary: the integer, then 1216 bits.
const FOUR_OVER_PI: [u64; 20] = [
    0x0000_0000_0000_0001,
    0x45f3_06dc_9c88_2a53,
    0xf84e_afa3_ea69_bb81,
    0xb6c5_2b32_7887_2083,
    0xfca2_c757_bd77_8ac3,
    0x6e48_dc74_849b_a5c0,
    0x0c92_5dd4_13a3_2439,
    0xfc3b_d639_6253_4e7d,
    0xd104_6bea_5d76_8909,
    0xd338_e04d_68be_fc82,
    0x7323_ac73_06a6_73e9,
    0x3908_bf17_7bf2_5076,
    0x3ff1_2fff_bc0b_301f,
    0xde5e_2316_b414_da3e,
    0xda6c_fd9e_4f96_136e,
    0x9e8c_7ecd_3cbf_d45a,
    0xea4f_758f_d7cb_e2f6,
    0x7a0e_73ef_14a5_25d4,
    0xd7f6_bf62_3f1a_ba10,
    0xac06_608d_f8f6_d757,
];

/// The multiple of π/4 next to `v`, an even one, modulo 8, and the rest. `v` is not negative and finite.
pub(super) fn reduce(v: f64) -> (u64, f64) {
    if v >= THREE_PARTS_MAX {
        return reduce_large(v);
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "below 2^30 and not negative"
    )]
    let octants = (v * (4.0 / std::f64::consts::PI)) as u64;
    let octants = octants + (octants & 1);
    #[expect(clippy::cast_precision_loss, reason = "below 2^30")]
    let multiple = octants as f64;
    (octants & 7, ((v - multiple * PARTS[0]) - multiple * PARTS[1]) - multiple * PARTS[2])
}

/// Payne and Hanek's method: of the product with 4/π, only the bits that matter are computed.
fn reduce_large(v: f64) -> (u64, f64) {
    const FRACTION_BITS: u64 = 52;
    let bits = v.to_bits();
    let integer = bits & ((1 << FRACTION_BITS) - 1) | 1 << FRACTION_BITS;
    // The integer is to be multiplied with two to the power of what is stored, less 1023 + 52; the leading digit of the product is to have 2^-61.
    let shift = (bits >> FRACTION_BITS) + 61 - 1023 - FRACTION_BITS;
    let digit = |at: u64| {
        let at = usize::try_from(shift / 64 + at).expect("at most 1032 / 64 + 3");
        let (high, low) = (u128::from(FOUR_OVER_PI[at]), u128::from(FOUR_OVER_PI[at + 1]));
        high_half((high << 64 | low) << (shift % 64))
    };
    let product = |digit: u64| u128::from(digit) * u128::from(integer);
    let low = product(digit(1)) + (product(digit(2)) >> 64);
    let all = (u128::from(digit(0).wrapping_mul(integer)) << 64).wrapping_add(low);
    let octants = high_half(all) >> 61;
    let fraction = high_half(all << 3);
    let zeros = fraction.leading_zeros();
    let stored = 1023 - (u64::from(zeros) + 1);
    // The leading one goes. What comes in from the right are bits of the lower half as it was before it moved by three, as in Go: that is
    // wrong, but matters only in the last bits of angles next to a multiple of π/4.
    let above = fraction.checked_shl(zeros + 1).unwrap_or(0);
    let below = low_half(all).checked_shr(63_u32.saturating_sub(zeros)).unwrap_or(0);
    let fraction = (above | below) >> (64 - FRACTION_BITS);
    let rest = f64::from_bits(stored << FRACTION_BITS | fraction);
    if octants & 1 == 1 {
        ((octants + 1) & 7, (rest - 1.0) * std::f64::consts::FRAC_PI_4)
    } else {
        (octants, rest * std::f64::consts::FRAC_PI_4)
    }
}

/// The upper 64 bits.
const fn high_half(v: u128) -> u64 {
    (v >> 64) as u64
}

/// The lower 64 bits.
#[expect(clippy::cast_possible_truncation, reason = "the lower bits are what is asked for")]
const fn low_half(v: u128) -> u64 {
    v as u64
}
