//! What a query may use: bytes, and time until it is told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::QueryError;

/// A number of bytes that one query, or all queries together, may hold.
///
/// Cloning shares the account. A child account charges its parent too.
#[derive(Clone, Debug)]
pub struct Budget {
    account: Arc<Account>,
}

#[derive(Debug)]
struct Account {
    bytes_used: AtomicU64,
    bytes_max: u64,
    parent: Option<Budget>,
}

impl Budget {
    /// An account that allows `bytes_max` bytes to be held at a time.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self::with_parent(bytes_max, None)
    }

    /// An account without bound.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(u64::MAX)
    }

    /// An account of its own bound whose bytes also count against `self`.
    #[must_use]
    pub fn child(&self, bytes_max: u64) -> Self {
        Self::with_parent(bytes_max, Some(self.clone()))
    }

    fn with_parent(bytes_max: u64, parent: Option<Self>) -> Self {
        Self { account: Arc::new(Account { bytes_used: AtomicU64::new(0), bytes_max, parent }) }
    }

    /// Bytes held now.
    #[must_use]
    pub fn bytes_used(&self) -> u64 {
        self.account.bytes_used.load(Ordering::Relaxed)
    }

    /// Bytes that may be held.
    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        self.account.bytes_max
    }

    /// Holds `bytes` until the returned charge is dropped.
    ///
    /// # Errors
    /// [`QueryError::OverBudget`] when the account or one above it does not have them.
    pub fn charge(&self, bytes: usize) -> Result<Charge, QueryError> {
        let mut charge = Charge { budget: self.clone(), bytes: 0 };
        charge.grow(bytes)?;
        Ok(charge)
    }

    fn add(&self, bytes: u64) -> Result<(), QueryError> {
        let before = self.account.bytes_used.fetch_add(bytes, Ordering::Relaxed);
        let needed = before.saturating_add(bytes);
        if needed > self.account.bytes_max {
            self.account.bytes_used.fetch_sub(bytes, Ordering::Relaxed);
            return Err(QueryError::OverBudget { needed, allowed: self.account.bytes_max });
        }
        if let Some(parent) = &self.account.parent
            && let Err(error) = parent.add(bytes)
        {
            self.account.bytes_used.fetch_sub(bytes, Ordering::Relaxed);
            return Err(error);
        }
        Ok(())
    }

    fn sub(&self, bytes: u64) {
        self.account.bytes_used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(parent) = &self.account.parent {
            parent.sub(bytes);
        }
    }
}

/// Bytes held against a [`Budget`]; given back on drop.
#[derive(Debug)]
pub struct Charge {
    budget: Budget,
    bytes: u64,
}

impl Charge {
    /// Holds `bytes` more.
    ///
    /// # Errors
    /// [`QueryError::OverBudget`]; what was held before stays held.
    pub fn grow(&mut self, bytes: usize) -> Result<(), QueryError> {
        let bytes = bytes as u64;
        self.budget.add(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Holds `bytes` in all, if it does not hold more already.
    ///
    /// # Errors
    /// [`QueryError::OverBudget`]; what was held before stays held.
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), QueryError> {
        let held = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        self.grow(bytes.saturating_sub(held))
    }

    /// Bytes held.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.sub(self.bytes);
    }
}

/// Tells a query to stop; cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Cancellation {
    flag: Arc<AtomicBool>,
}

impl Cancellation {
    /// One that has not been cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops whoever checks.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// Whether it was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}

/// The bounds within which one query works; passed down to the store.
#[derive(Clone, Debug)]
pub struct QueryContext {
    /// Bytes it may hold.
    pub budget: Budget,
    /// Set when nobody waits for the answer any more.
    pub cancellation: Cancellation,
    /// When to give up, on the monotonic clock.
    pub deadline: Option<Instant>,
}

impl QueryContext {
    /// No bounds at all, for tools and tests.
    #[must_use]
    pub fn unbounded() -> Self {
        Self { budget: Budget::unlimited(), cancellation: Cancellation::new(), deadline: None }
    }

    /// To be called at least once per series read or step evaluated.
    ///
    /// # Errors
    /// [`QueryError::Cancelled`] or [`QueryError::TimedOut`].
    pub fn check(&self) -> Result<(), QueryError> {
        if self.cancellation.is_cancelled() {
            return Err(QueryError::Cancelled);
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(QueryError::TimedOut),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_are_given_back() {
        let all = Budget::new(100);
        let one = all.child(60);
        let held = one.charge(50).unwrap();
        assert_eq!((all.bytes_used(), one.bytes_used()), (50, 50));
        assert!(matches!(one.charge(11), Err(QueryError::OverBudget { needed: 61, allowed: 60 })));
        let other = all.child(100);
        assert!(matches!(
            other.charge(51),
            Err(QueryError::OverBudget { needed: 101, allowed: 100 })
        ));
        assert_eq!((all.bytes_used(), other.bytes_used()), (50, 0));
        drop(held);
        assert_eq!((all.bytes_used(), one.bytes_used()), (0, 0));
        let mut held = one.charge(10).unwrap();
        held.grow_to(30).unwrap();
        held.grow_to(20).unwrap();
        assert_eq!(one.bytes_used(), 30);
        assert!(held.grow_to(61).is_err());
    }

    #[test]
    fn a_context_stops_on_cancellation_and_deadline() {
        let mut context = QueryContext::unbounded();
        assert!(context.check().is_ok());
        context.deadline = Some(Instant::now());
        assert!(matches!(context.check(), Err(QueryError::TimedOut)));
        let shared = context.cancellation.clone();
        shared.cancel();
        assert!(matches!(context.check(), Err(QueryError::Cancelled)));
    }
}
