//! Memory for the bytes of chunks that are still written to.
//!
//! Buffers come in size classes, each class in pages of its own, so that a buffer costs its size and not an allocation. A constant series
//! stays in the smallest class for all of its chunk.

/// Sizes of buffers. The last holds the largest chunk: 1005 bytes at which a chunk is cut, and one more sample.
const CLASS_BYTES: [usize; 10] = [48, 64, 96, 128, 192, 256, 384, 512, 768, 1040];

const PAGE_BYTES: usize = 64 << 10;

/// Names a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Buffer {
    pub(crate) class: u8,
    pub(crate) index: u32,
}

#[derive(Debug, Default)]
struct Class {
    pages: Vec<Box<[u8]>>,
    used: u32,
    free: Vec<u32>,
}

/// All buffers.
#[derive(Debug, Default)]
pub(crate) struct OpenBuffers {
    classes: [Class; CLASS_BYTES.len()],
}

/// Page and range of bytes of a buffer.
fn locate(buffer: Buffer) -> (usize, std::ops::Range<usize>) {
    let bytes = CLASS_BYTES[usize::from(buffer.class)];
    let per_page = PAGE_BYTES / bytes;
    let index = buffer.index as usize;
    let start = index % per_page * bytes;
    (index / per_page, start..start + bytes)
}

impl OpenBuffers {
    /// A buffer of the smallest size.
    pub(crate) fn allocate(&mut self) -> Buffer {
        self.allocate_in(0)
    }

    fn allocate_in(&mut self, class: u8) -> Buffer {
        let of_class = &mut self.classes[usize::from(class)];
        if let Some(index) = of_class.free.pop() {
            return Buffer { class, index };
        }
        let buffer = Buffer { class, index: of_class.used };
        of_class.used += 1;
        if locate(buffer).0 == of_class.pages.len() {
            of_class.pages.push(vec![0; PAGE_BYTES].into_boxed_slice());
        }
        buffer
    }

    pub(crate) fn free(&mut self, buffer: Buffer) {
        self.classes[usize::from(buffer.class)].free.push(buffer.index);
    }

    #[inline]
    pub(crate) fn get(&self, buffer: Buffer) -> &[u8] {
        let (page, range) = locate(buffer);
        &self.classes[usize::from(buffer.class)].pages[page][range]
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, buffer: Buffer) -> &mut [u8] {
        let (page, range) = locate(buffer);
        &mut self.classes[usize::from(buffer.class)].pages[page][range]
    }

    /// A buffer of at least `bytes` with the content of `buffer`, which is freed.
    ///
    /// # Panics
    /// If `bytes` is more than a chunk can have.
    pub(crate) fn grow(&mut self, buffer: Buffer, bytes: usize) -> Buffer {
        let class = CLASS_BYTES.iter().position(|&size| size >= bytes);
        let class = class.expect("chunks are cut before they outgrow the largest class");
        let grown = self.allocate_in(u8::try_from(class).expect("there are few classes"));
        let mut content = [0; CLASS_BYTES[CLASS_BYTES.len() - 1]];
        let old = self.get(buffer);
        content[..old.len()].copy_from_slice(old);
        let len = old.len();
        self.get_mut(grown)[..len].copy_from_slice(&content[..len]);
        self.free(buffer);
        grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_grow_and_are_reused() {
        let mut buffers = OpenBuffers::default();
        let many: Vec<Buffer> = (0..3000).map(|_| buffers.allocate()).collect();
        for (i, &buffer) in many.iter().enumerate() {
            buffers.get_mut(buffer).fill(i.to_le_bytes()[0]);
        }
        let grown = buffers.grow(many[1500], 100);
        assert_eq!(buffers.get(grown).len(), 128);
        assert_eq!(buffers.get(grown)[..48], [1500_usize.to_le_bytes()[0]; 48]);
        assert_eq!(buffers.get(many[1501])[47], 1501_usize.to_le_bytes()[0]);
        assert_eq!(buffers.allocate(), many[1500]);
    }
}
