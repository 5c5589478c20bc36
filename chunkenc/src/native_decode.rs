//! Reading chunks of native histograms.

use model::{CounterReset, FloatHistogram, Timestamp, is_stale};

use crate::bits::Bits;
use crate::chunk::{ChunkError, Encoding};
use crate::coarsen::coarsened;
use crate::field::{Field, Signed};
use crate::kind::{Fields, NativeHistogram};
use crate::layout::{Layout, LayoutError};
use crate::starts::Starts;

/// Bytes before the bits: count and flags, or with start timestamps flags within the count and where these are.
pub(crate) const HISTOGRAM_HEADER_BYTES: usize = 3;

/// Spans and custom bounds times samples that a chunk may come to. Each sample that is read has its own copy of the layout, and a sample of
/// an empty layout takes four bits, so that 64 KiB of damage could ask for tens of GiB. Real chunks stay below a hundredth.
const LAYOUTS_MAX: usize = 1 << 22;

/// The histograms of a chunk, one at a time.
#[derive(Clone, Debug)]
pub(crate) struct NativeDecoder<'a, H: NativeHistogram> {
    pub(crate) bits: Bits<'a>,
    announced: u16,
    pub(crate) decoded: u16,
    pub(crate) header: CounterReset,
    pub(crate) layout: Layout,
    pub(crate) time: Signed,
    pub(crate) fields: Fields<H>,
    pub(crate) starts: Option<Starts>,
}

impl<'a, H: NativeHistogram> NativeDecoder<'a, H> {
    /// Reads the header.
    pub(crate) fn new(encoding: Encoding, chunk: &'a [u8]) -> Result<Self, ChunkError> {
        let with_starts = encoding == H::ENCODING_WITH_STARTS;
        if !with_starts && encoding != H::ENCODING {
            return Err(ChunkError::UnknownEncoding(encoding.number()));
        }
        let (&[first, second, third], payload) = chunk
            .split_first_chunk::<HISTOGRAM_HEADER_BYTES>()
            .ok_or(ChunkError::Truncated { decoded: 0, announced: 0 })?;
        let count = u16::from_be_bytes([first, second]);
        let (announced, flags, starts) = if with_starts {
            (count & 0x3fff, first, Some(Starts::from_header(third)))
        } else {
            (count, third, None)
        };
        Ok(Self {
            bits: Bits::new(payload),
            announced,
            decoded: 0,
            header: match flags >> 6 {
                0b00 => CounterReset::Unknown,
                0b01 => CounterReset::NotReset,
                0b10 => CounterReset::Reset,
                _ => CounterReset::Gauge,
            },
            layout: Layout::default(),
            time: Signed::NEW,
            fields: Fields::NEW,
            starts,
        })
    }

    /// Reads the next sample; `false` at the end.
    pub(crate) fn advance(&mut self) -> Result<bool, ChunkError> {
        if self.decoded >= self.announced {
            return Ok(false);
        }
        let (decoded, announced) = (self.decoded, self.announced);
        if decoded == 0 {
            self.layout = Layout::get(&mut self.bits).map_err(|error| match error {
                LayoutError::Truncated => ChunkError::Truncated { decoded, announced },
                LayoutError::Malformed => ChunkError::Malformed(decoded),
                LayoutError::UnknownSchema(schema) => ChunkError::UnknownSchema(schema),
            })?;
            let Layout { positive, negative, custom_bounds, .. } = &self.layout;
            let entries = positive.len() + negative.len() + custom_bounds.len();
            if !layouts_in_bounds(entries, announced) {
                return Err(ChunkError::TooLarge);
            }
        }
        match self.sample_fields() {
            Some(Ok(())) => {
                self.decoded += 1;
                Ok(true)
            }
            Some(Err(())) => Err(ChunkError::Malformed(decoded)),
            None => Err(ChunkError::Truncated { decoded, announced }),
        }
    }

    /// `None` at the end of the bits, an inner error where they are impossible.
    fn sample_fields(&mut self) -> Option<Result<(), ()>> {
        let previous_t = self.time.value();
        let read = if self.decoded == 0 {
            self.time.get_first(&mut self.bits)?;
            self.fields.get_first(&self.layout, &mut self.bits)?;
            true
        } else {
            self.time.get_next(&mut self.bits)?;
            self.fields.get_next(&mut self.bits)?
        };
        match &mut self.starts {
            _ if !read => Some(Err(())),
            None => Some(Ok(())),
            Some(starts) => starts.get(self.decoded, self.time.value(), previous_t, &mut self.bits),
        }
    }

    /// Time of the sample that was read last.
    pub(crate) fn t(&self) -> Timestamp {
        self.time.value()
    }

    /// Its start timestamp; 0 if unknown.
    pub(crate) fn start(&self) -> Timestamp {
        self.starts.as_ref().map_or(0, Starts::last)
    }

    /// The histogram that was read last, as it was written.
    pub(crate) fn histogram(&self) -> H {
        Self::sample(self.header, self.decoded == 1, &self.layout, &self.fields)
    }

    /// The sample that `fields` hold; of a stale marker nothing but the sum.
    pub(crate) fn sample(
        header: CounterReset,
        first: bool,
        layout: &Layout,
        fields: &Fields<H>,
    ) -> H {
        if is_stale(fields.sum.value()) {
            let stale = Fields { sum: fields.sum.clone(), ..Fields::NEW };
            return H::assemble(CounterReset::Unknown, &Layout::default(), &stale);
        }
        H::assemble(counter_reset(header, first), layout, fields)
    }

    /// The histogram that was read last, with float counts and in a schema that queries know.
    pub(crate) fn float_histogram(&self) -> FloatHistogram {
        let sum = self.fields.sum.value();
        if is_stale(sum) {
            return FloatHistogram { sum, ..FloatHistogram::default() };
        }
        let counter_reset = counter_reset(self.header, self.decoded == 1);
        coarsened(H::assemble_float(counter_reset, &self.layout, &self.fields))
    }
}

/// Whether so many spans and bounds may be in each of so many samples. A chunk of one sample may have whatever fits it.
pub(crate) fn layouts_in_bounds(entries: usize, samples: u16) -> bool {
    samples <= 1 || entries.saturating_mul(usize::from(samples)) <= LAYOUTS_MAX
}

/// What is known about a counter reset before a histogram of a chunk. As Prometheus has it, the header is trusted only for gauges: the chunk
/// before may be gone, or one may have been put in between.
const fn counter_reset(header: CounterReset, first: bool) -> CounterReset {
    match header {
        CounterReset::Gauge => CounterReset::Gauge,
        _ if first => CounterReset::Unknown,
        _ => CounterReset::NotReset,
    }
}

impl<H: NativeHistogram> Fields<H> {
    fn get_first(&mut self, layout: &Layout, bits: &mut Bits<'_>) -> Option<()> {
        self.count.get_first(bits)?;
        self.zero_count.get_first(bits)?;
        self.sum.get_first(bits)?;
        for (spans, buckets) in
            [(&layout.positive, &mut self.positive), (&layout.negative, &mut self.negative)]
        {
            // Within the bits of the chunk, as checked when the layout was read.
            for _ in 0..crate::buckets::count(spans) {
                let mut bucket = H::Bucket::NEW;
                bucket.get_first(bits)?;
                buckets.push(bucket);
            }
        }
        Some(())
    }

    fn get_next(&mut self, bits: &mut Bits<'_>) -> Option<bool> {
        if !self.count.get_next(bits)?
            || !self.zero_count.get_next(bits)?
            || !self.sum.get_next(bits)?
        {
            return Some(false);
        }
        if is_stale(self.sum.value()) {
            return Some(true);
        }
        for bucket in self.positive.iter_mut().chain(&mut self.negative) {
            if !bucket.get_next(bits)? {
                return Some(false);
            }
        }
        Some(true)
    }
}
