//! Vectors that grow by an eighth instead of doubling.
//!
//! The head's columns hold one element for each series: doubling would leave a quarter of them unused on average. Growing a large
//! vector costs no copy where the allocator can remap pages.

/// Pushing with little spare room.
pub(crate) trait LeanPush<T> {
    /// Appends `value`; when full, makes room for an eighth more.
    fn lean_push(&mut self, value: T);
}

impl<T> LeanPush<T> for Vec<T> {
    #[inline]
    fn lean_push(&mut self, value: T) {
        if self.len() == self.capacity() {
            self.reserve_exact(self.len() / 8 + 2);
        }
        self.push(value);
    }
}
