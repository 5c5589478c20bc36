//! Floats that are charged to the query's budget.

use std::ops::{Deref, DerefMut};

use model::{Charge, QueryContext};

use super::failure::QueryFailure;

/// A fixed number of floats, given back to the budget when dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    values: Vec<f64>,
    /// None in tests.
    _charge: Option<Charge>,
}

impl Buffer {
    /// `len` times `value`.
    ///
    /// # Errors
    /// [`QueryFailure::OverBudget`]
    pub(super) fn new(
        value: f64,
        len: usize,
        context: &QueryContext,
    ) -> Result<Self, QueryFailure> {
        let charge = context.budget.charge(len.saturating_mul(size_of::<f64>()))?;
        Ok(Self { values: vec![value; len], _charge: Some(charge) })
    }
}

impl Deref for Buffer {
    type Target = [f64];

    fn deref(&self) -> &[f64] {
        &self.values
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }
}

#[cfg(test)]
impl<const N: usize> From<[f64; N]> for Buffer {
    fn from(values: [f64; N]) -> Self {
        Self { values: values.to_vec(), _charge: None }
    }
}
