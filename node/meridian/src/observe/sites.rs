//! The sites' part of the metrics page. Its size has a bound: the first [`SITES_MAX`] sites have series of their own, the
//! others share one. First come, first shown: a site never moves between the two, so no series ever falls.

use std::collections::BTreeMap;

use region_config::SiteId;

use super::{
    counters::{Outcome, Totals},
    exposition::{Exposition, Family, Kind},
};

/// How many sites have series of their own.
pub(super) const SITES_MAX: usize = 100;

/// The label for requests that belong to no site: no site can have this name.
const NONE: &str = "-";
/// The label for the sites beyond [`SITES_MAX`]: no site can have this name.
pub(super) const OTHER: &str = "_other";

pub(super) fn write_sites(page: &mut Exposition, sites: &[(SiteId, Totals)], strays: &Totals) {
    let (own, others) = sites.split_at_checked(SITES_MAX).unwrap_or((sites, &[]));
    let mut rows: Vec<(&str, &Totals)> = own.iter().map(|(name, totals)| (name.as_str(), totals)).collect();
    let mut other = Totals::default();
    others.iter().for_each(|(_, totals)| other.absorb(totals));
    if !others.is_empty() {
        rows.push((OTHER, &other));
    }
    rows.push((NONE, strays));
    write_outcomes(page, &rows);
    write_reasons(page, &rows);
    write_plain(page, &rows);
    write_latency(page, &rows);
}

fn write_outcomes(page: &mut Exposition, rows: &[(&str, &Totals)]) {
    let mut family = page.family("meridian_requests_total", Kind::Counter, "Requests, by what became of them.");
    for (site, totals) in rows {
        for outcome in Outcome::ALL {
            family.count(&[("site", site), ("outcome", outcome.as_str())], totals.of(outcome));
        }
    }
}

fn write_reasons(page: &mut Exposition, rows: &[(&str, &Totals)]) {
    let help = "Requests that were no fresh hits, by reason: each has one, so that they add up to all requests without \
                outcome hit.";
    let mut family = page.family("meridian_not_hit_total", Kind::Counter, help);
    rows.iter().for_each(|(site, totals)| reasons(&mut family, site, totals.not_hit()));
    let help = "Responses to fetches for the cache that were not stored, by reason: with meridian_stored_total and \
                meridian_renewed_total they add up to meridian_fetched_total.";
    let mut family = page.family("meridian_not_stored_total", Kind::Counter, help);
    rows.iter().for_each(|(site, totals)| reasons(&mut family, site, totals.not_stored()));
}

fn reasons(family: &mut Family<'_>, site: &str, counts: BTreeMap<&'static str, u64>) {
    for (reason, count) in counts {
        family.count(&[("site", site), ("reason", reason)], count);
    }
}

fn write_plain(page: &mut Exposition, rows: &[(&str, &Totals)]) {
    type Plain = (&'static str, &'static str, fn(&Totals) -> u64);
    let families: [Plain; 6] = [
        ("meridian_response_bytes_total", "Bytes of bodies sent to clients.", |totals| totals.bytes_out),
        ("meridian_origin_fetches_total", "Times the origin was asked.", |totals| totals.origin_fetches),
        ("meridian_collapsed_total", "Requests that waited for another one's fill.", |totals| totals.collapsed),
        ("meridian_fetched_total", "Responses to fetches for the cache.", |totals| totals.fetched),
        ("meridian_stored_total", "Responses stored.", |totals| totals.stored),
        ("meridian_renewed_total", "Stored responses that a 304 renewed.", |totals| totals.renewed),
    ];
    for (name, help, value) in families {
        let mut family = page.family(name, Kind::Counter, help);
        rows.iter().for_each(|(site, totals)| family.count(&[("site", site)], value(totals)));
    }
}

fn write_latency(page: &mut Exposition, rows: &[(&str, &Totals)]) {
    let help = "Time from a request's head to its answer's head.";
    let mut family = page.family("meridian_request_duration_seconds", Kind::Histogram, help);
    for (site, totals) in rows {
        family.histogram(&[("site", site)], &totals.latency, totals.micros);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_page_does_not_grow_beyond_its_bound_and_loses_no_request() {
        let mut totals = Totals::default();
        totals.outcomes[0] = 1;
        let sites: Vec<_> = (0..1000).map(|n| (SiteId::parse(&format!("s{n}")).unwrap(), totals.clone())).collect();
        let mut page = Exposition::default();
        write_sites(&mut page, &sites, &Totals::default());
        let text = page.into_text();
        assert!(text.lines().count() < (SITES_MAX + 2) * 50, "{}", text.lines().count());
        assert!(text.contains("meridian_requests_total{site=\"_other\",outcome=\"hit\"} 900"));
    }
}
