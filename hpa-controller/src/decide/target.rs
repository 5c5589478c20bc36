//! References to targets that lead nowhere: the reconciliation's error then says that no scale was asked for.

/// What an error about the specification begins with.
const INVALID_VERSION: &str = "invalid API version in scale target reference: ";
/// How the text begins that an `apiVersion` is malformed, and how the one that there is no such kind; both are upstream's.
const MALFORMED_VERSION: &str = "unexpected GroupVersion string: ";
const NO_KIND: &str = "no matches for kind ";

/// How the text begins that it is not known which kinds there are, as the server does not say it of all groups; upstream's, too.
pub(crate) const INCOMPLETE_DISCOVERY: &str =
    "unable to retrieve the complete list of server APIs: ";

/// The reconciliation's error if `why` there is no scale is that it is not known where it would be.
pub(super) fn error(why: &str) -> Option<String> {
    if why.starts_with(MALFORMED_VERSION) {
        Some(format!("{INVALID_VERSION}{why}"))
    } else if why.starts_with(NO_KIND) || why.starts_with(INCOMPLETE_DISCOVERY) {
        Some(format!("unable to determine resource for scale target reference: {why}"))
    } else {
        None
    }
}

/// Whether an error of a reconciliation is one about the specification.
pub(super) fn is_about_specification(error: &str) -> bool {
    error.starts_with(INVALID_VERSION)
}
