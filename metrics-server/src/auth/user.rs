//! Who asks.

use std::collections::BTreeMap;

/// The group of everyone whose credentials are good.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of everyone who has none.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user who has none.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group that may do everything.
pub const MASTERS: &str = "system:masters";

/// Who asks, as the authentication made out; an extension of every request that a handler sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The name that roles are bound to.
    pub name: String,
    /// An identifier that, unlike the name, is never given to anyone else; may be empty.
    pub uid: String,
    /// The groups that roles are bound to.
    pub groups: Vec<String>,
    /// What else is known, for the authorizer alone.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// Someone without credentials.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            name: String::from(ANONYMOUS),
            groups: vec![String::from(UNAUTHENTICATED)],
            ..Self::default()
        }
    }

    /// Whether the user is in `group`.
    #[must_use]
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|one| one == group)
    }

    /// Adds the group of everyone with good credentials, unless one of the two groups is there already.
    pub(crate) fn authenticated(mut self) -> Self {
        if self.name != ANONYMOUS && !self.is_in(AUTHENTICATED) && !self.is_in(UNAUTHENTICATED) {
            self.groups.push(String::from(AUTHENTICATED));
        }
        self
    }
}
