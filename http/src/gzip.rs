//! Bounded gzip decompression.

use std::io::Read;

use flate2::read::MultiGzDecoder;

/// Why a body cannot be decompressed.
#[derive(Debug)]
pub(crate) enum GunzipError {
    /// Not gzip, or cut short.
    Malformed(std::io::Error),
    /// More bytes than allowed come out.
    TooLarge,
}

/// Decompresses `body`, at most `bytes_max` bytes: a small body cannot claim more memory than that.
pub(crate) fn gunzip(body: &[u8], bytes_max: usize) -> Result<Vec<u8>, GunzipError> {
    // Text compresses about tenfold; a wrong guess costs a few reallocations.
    let mut out = Vec::with_capacity(body.len().saturating_mul(8).min(bytes_max).min(1 << 20));
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    MultiGzDecoder::new(body).take(limit).read_to_end(&mut out).map_err(GunzipError::Malformed)?;
    if out.len() > bytes_max {
        return Err(GunzipError::TooLarge);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn round_trip_and_bounds() {
        let body = vec![b'x'; 1 << 20];
        let small = gzip(&body);
        assert!(small.len() < 1 << 14);
        assert_eq!(gunzip(&small, 1 << 20).unwrap(), body);
        assert!(matches!(gunzip(&small, (1 << 20) - 1), Err(GunzipError::TooLarge)));
        assert!(matches!(gunzip(&small[..100], 1 << 20), Err(GunzipError::Malformed(_))));
        assert!(matches!(gunzip(b"plain text", 1 << 20), Err(GunzipError::Malformed(_))));
    }
}
