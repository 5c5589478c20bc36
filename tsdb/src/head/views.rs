//! Which views of the store are open.
//!
//! A view must not see batches appended after it was opened. Instead of keeping versions of samples, the head notes how far a series reached
//! when it is first appended to after a view was opened, and only while one is open: since samples of a series come in
//! time order, that time is all a view needs. A view also keeps the samples it may need from being dropped.

use std::collections::BTreeMap;

use model::Timestamp;
use parking_lot::Mutex;

/// The open views.
#[derive(Debug, Default)]
pub(crate) struct Views {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    newest: u32,
    /// By number, the time from which on the view takes samples from the head.
    open: BTreeMap<u32, Timestamp>,
}

impl Views {
    /// Opens a view that takes samples from `head_from` on from the head. To be called while the head cannot change.
    pub(crate) fn open(&self, head_from: Timestamp) -> u32 {
        let mut state = self.state.lock();
        // 0 is the mark of series never appended to while a view was open.
        state.newest = state.newest.wrapping_add(1).max(1);
        let number = state.newest;
        state.open.insert(number, head_from);
        number
    }

    pub(crate) fn close(&self, number: u32) {
        self.state.lock().open.remove(&number);
    }

    /// The newest view, if any is open.
    pub(crate) fn newest(&self) -> Option<u32> {
        let state = self.state.lock();
        (!state.open.is_empty()).then_some(state.newest)
    }

    /// The number of the view that was opened last, whether it is still open or not.
    pub(crate) fn last_number(&self) -> u32 {
        self.state.lock().newest
    }

    /// The oldest open view.
    pub(crate) fn oldest(&self) -> Option<u32> {
        self.state.lock().open.keys().next().copied()
    }

    /// Whether a view still takes samples before `t` from the head.
    pub(crate) fn needs_before(&self, t: Timestamp) -> bool {
        self.state.lock().open.values().any(|&head_from| head_from < t)
    }
}
