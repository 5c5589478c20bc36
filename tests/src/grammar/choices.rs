//! Where decisions come from.

/// Makes decisions.
pub trait Choices {
    /// A number below `count`, which is at least 1.
    fn below(&mut self, count: usize) -> usize;
}

/// Decisions that follow from a seed (SplitMix64 of Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub struct Seeded(u64);

impl Seeded {
    /// The same seed makes the same decisions.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Decisions for the `number`th of many things that follow from one seed, independent of those for the others.
    #[must_use]
    pub fn numbered(seed: u64, number: u64) -> Self {
        Self(Self(Self(seed).bits() ^ number).bits())
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A fraction from 0 up to, but not, 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub fn fraction(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl Choices for Seeded {
    fn below(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).expect("64 bits are enough");
        // The bias is that of 2^64 to a small number.
        usize::try_from(self.bits() % count.max(1)).expect("below a usize")
    }
}

/// Decisions that follow from bytes, one of each; when there are no more, always the first alternative.
#[derive(Clone, Debug)]
pub struct FromBytes<'b>(&'b [u8]);

impl<'b> FromBytes<'b> {
    /// Uses up `bytes` from the front.
    #[must_use]
    pub const fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }
}

impl Choices for FromBytes<'_> {
    fn below(&mut self, count: usize) -> usize {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(first) % count.max(1)
    }
}
