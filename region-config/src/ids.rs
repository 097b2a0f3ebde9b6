//! The names of things: checked once, compared and shared cheaply ever after.

use std::{fmt, sync::Arc};

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{found}` is not a name: expected 1 to 63 characters of a-z, 0-9 and `-`, beginning and ending with a letter or digit"
)]
pub struct NameFault {
    /// What was found, cut to 80 characters.
    pub found: String,
}

/// Checks a name: 1 to 63 characters of `a-z`, `0-9` and `-`, with no `-` at either end (an LDH label, RFC 1123).
fn check(name: &str) -> Result<(), NameFault> {
    let bytes = name.as_bytes();
    let inner = bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
    let ends = bytes.first() != Some(&b'-') && bytes.last() != Some(&b'-');
    if inner && ends && (1..=63).contains(&bytes.len()) {
        return Ok(());
    }
    Err(NameFault { found: name.chars().take(80).collect() })
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and keeps a name.
            ///
            /// # Errors
            /// [`NameFault`] if it is not 1 to 63 characters of `a-z`, `0-9` and `-`.
            pub fn parse(name: &str) -> Result<Self, NameFault> {
                check(name)?;
                Ok(Self(Arc::from(name)))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    )+};
}

names! {
    /// One running `meridian`.
    NodeId,
    /// A named place with coordinates that nodes stand in.
    RegionId,
    /// A legal area that a region lies in, such as `eu`.
    JurisdictionId,
    /// A customer: their sites, hosts and policy.
    TenantId,
    /// A tenant's set of hosts with origins, routes and a pin. Unique across tenants.
    SiteId,
    /// An application's right to order purges.
    TokenId,
    /// The nodes that may hold a site's data and purges: `global`, or the name of a jurisdiction.
    RealmId,
}

impl RealmId {
    /// The realm of sites without a pin: every node is a member.
    #[must_use]
    pub fn global() -> Self {
        Self(Arc::from("global"))
    }

    /// The realm of the sites pinned to a jurisdiction: the nodes certified for it are its members.
    #[must_use]
    pub fn pinned(jurisdiction: &JurisdictionId) -> Self {
        Self(Arc::clone(&jurisdiction.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_an_ldh_label() {
        for good in ["a", "eu-central", "node-1", "0", &"a".repeat(63)] {
            assert!(NodeId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "ü", "a b", &"a".repeat(64)] {
            assert!(NodeId::parse(bad).is_err(), "{bad}");
        }
    }
}
