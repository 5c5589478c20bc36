//! Hyperbolic functions: by exponentials, and near zero, where those would cancel, by rational functions.

use super::exp;

/// Above this the exponential of −v no longer matters.
const LARGE: f64 = 21.0;

/// The hyperbolic sine. Near zero it is Hart and Cheney's approximation 2029.
pub(crate) fn sinh(v: f64) -> f64 {
    const P: [f64; 4] = [
        -630_767.364_049_771_7,
        -89_912.720_220_395_09,
        -2_894.211_355_989_564,
        -26.305_632_133_974_97,
    ];
    const Q: [f64; 3] = [-630_767.364_049_771_7, 15_215.173_787_900_19, -173.678_953_558_233_7];
    let (magnitude, negative) = if v < 0.0 { (-v, true) } else { (v, false) };
    let result = if magnitude > LARGE {
        exp(magnitude) / 2.0
    } else if magnitude > 0.5 {
        let growing = exp(magnitude);
        (growing - 1.0 / growing) / 2.0
    } else {
        let square = magnitude * magnitude;
        let numerator = (((P[3] * square + P[2]) * square + P[1]) * square + P[0]) * magnitude;
        numerator / (((square + Q[2]) * square + Q[1]) * square + Q[0])
    };
    if negative { -result } else { result }
}

/// The hyperbolic cosine.
pub(crate) fn cosh(v: f64) -> f64 {
    let magnitude = v.abs();
    let growing = exp(magnitude);
    if magnitude > LARGE { growing / 2.0 } else { (growing + 1.0 / growing) / 2.0 }
}

/// The hyperbolic tangent, as in Cephes.
pub(crate) fn tanh(v: f64) -> f64 {
    const P: [f64; 3] =
        [-0.964_399_179_425_052_3, -99.287_723_100_191_85, -1_614.687_684_417_084_5];
    const Q: [f64; 3] = [112.811_678_491_632_93, 2_235.488_390_601_004_5, 4_844.063_053_251_255];
    /// Half the logarithm of 2^127: beyond, the result is ±1.
    const END: f64 = 0.5 * 88.029_691_931_113_05;
    let magnitude = v.abs();
    if magnitude > END {
        return 1.0_f64.copysign(v);
    }
    if magnitude >= 0.625 {
        let result = 1.0 - 2.0 / (exp(2.0 * magnitude) + 1.0);
        return if v < 0.0 { -result } else { result };
    }
    if v == 0.0 {
        return v;
    }
    let square = v * v;
    let numerator = v * square * ((P[0] * square + P[1]) * square + P[2]);
    v + numerator / (((square + Q[0]) * square + Q[1]) * square + Q[2])
}
