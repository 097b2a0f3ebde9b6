//! Where a site's data may be. The one place that mints [`Permit`]s.

use region_config::{Config, JurisdictionId, RealmId, RegionMask, Site, SiteId};

/// The right of *this node* to store, open, send or log one site's data. Only [`permit`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    site: SiteId,
    realm: RealmId,
}

impl Permit {
    /// The site it is for.
    #[must_use]
    pub fn site(&self) -> &SiteId {
        &self.site
    }

    /// The realm that the data stays in.
    #[must_use]
    pub fn realm(&self) -> &RealmId {
        &self.realm
    }
}

/// Why a node may not touch a site's data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("site `{site}` is pinned to `{pin}`, and this node is certified for `{here}`")]
pub struct Outside {
    /// The site.
    pub site: SiteId,
    /// Where its data must stay.
    pub pin: JurisdictionId,
    /// Where this node is.
    pub here: JurisdictionId,
}

/// Decides whether a node certified for `here` may hold the data of `site`.
///
/// `here` is what the node's *certificate* says; what a node claims in gossip or config never counts.
///
/// # Errors
/// [`Outside`] if the site is pinned elsewhere.
pub fn permit(site: &Site, here: &JurisdictionId) -> Result<Permit, Outside> {
    match &site.pin {
        Some(pin) if pin != here => Err(Outside { site: site.name.clone(), pin: pin.clone(), here: here.clone() }),
        _ => Ok(Permit { site: site.name.clone(), realm: site.realm() }),
    }
}

/// Whether a peer certified for `there` may receive this site's data.
#[must_use]
pub fn may_send(permit: &Permit, there: &JurisdictionId) -> bool {
    permit.realm == RealmId::global() || permit.realm == RealmId::pinned(there)
}

/// Whether a node certified for `here` is a member of `realm`.
#[must_use]
pub fn member(realm: &RealmId, here: &JurisdictionId) -> bool {
    *realm == RealmId::global() || *realm == RealmId::pinned(here)
}

/// The regions that may be named to clients of `site`, one bit per index in [`Config::regions`]. Health, load and
/// distance may only reorder inside it; empty means refuse.
#[must_use]
pub fn eligible(config: &Config, site: &Site) -> RegionMask {
    let mut mask = 0;
    for (index, region) in config.regions.iter().enumerate() {
        let inside = site.pin.as_ref().is_none_or(|pin| *pin == region.jurisdiction);
        if inside {
            mask |= 1 << index;
        }
    }
    mask
}
