//! What the API server does to an autoscaler before a controller sees it: defaults, validation, conversion of `autoscaling/v1`.
//!
//! A live controller never needs this; manifests that were not sent to an API server do.

mod defaults;
mod field;
mod read;
mod v1;
mod validate;

pub use defaults::set_defaults;
pub use field::FieldError;
pub(crate) use read::typed;
pub use read::{ReadError, autoscaler};
pub use validate::validate;
