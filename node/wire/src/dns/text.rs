//! Records as zone files have them (RFC 1035 section 5).

use domain::{
    base::{
        ParseRecordData as _, ParsedName, Record, ToName as _, Ttl,
        iana::{Class, Rtype},
        name::Name,
        zonefile_fmt::{DisplayKind, ZonefileFmt as _},
    },
    dep::octseq::Parser,
    rdata::{AllRecordData, Rrsig, dnssec},
    utils::base64,
};
use jiff::Timestamp;

/// How times are written: YYYYMMDDHHmmSS in UTC.
const DATE: &str = "%Y%m%d%H%M%S";

/// A record as a line of a zone file: owner, TTL, class, type and data. The owner and the data are in wire format, without
/// compressed names. None if they are not.
#[must_use]
pub fn zone_line(owner: &[u8], ttl_s: u32, rtype: Rtype, rdata: &[u8]) -> Option<String> {
    let owner = Name::from_slice(owner).ok()?;
    let mut parser = Parser::from_ref(rdata);
    let data = AllRecordData::<&[u8], ParsedName<&[u8]>>::parse_rdata(rtype, &mut parser).ok()??;
    if let AllRecordData::Rrsig(signature) = data {
        return Some(format!("{} {ttl_s} IN RRSIG {}", owner.fmt_with_dot(), signature_text(&signature)));
    }
    let record = Record::new(owner, Class::IN, Ttl::from_secs(ttl_s), data);
    Some(record.display_zonefile(DisplayKind::Simple).to_string())
}

/// RRSIG's data (RFC 4034 section 3.2), its times as dates: NSD reads no seconds.
fn signature_text(signature: &Rrsig<&[u8], ParsedName<&[u8]>>) -> String {
    let (until, from) = (date(signature.expiration()), date(signature.inception()));
    format!(
        "{} {} {} {} {until} {from} {} {} {}",
        signature.type_covered(),
        signature.algorithm().to_int(),
        signature.labels(),
        signature.original_ttl().as_secs(),
        signature.key_tag(),
        signature.signer_name().fmt_with_dot(),
        base64::encode_display(signature.signature()),
    )
}

fn date(time: dnssec::Timestamp) -> String {
    let unix_s = time.into_int();
    // 32 bits end in 2106, long before dates do
    Timestamp::from_second(unix_s.into()).map_or_else(|_| unix_s.to_string(), |time| time.strftime(DATE).to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn lines_are_what_zone_files_have() {
        let owner = Name::vec_from_str("*.apps.demo.test").unwrap();
        let line = |rtype, rdata: &[u8]| zone_line(owner.as_slice(), 30, rtype, rdata).unwrap();
        assert_eq!(line(Rtype::A, &[192, 0, 2, 1]), "*.apps.demo.test. 30 IN A 192.0.2.1");
        let server = Name::vec_from_str("ns1.demo.test").unwrap();
        assert_eq!(line(Rtype::NS, server.as_slice()), "*.apps.demo.test. 30 IN NS ns1.demo.test.");
        assert_eq!(zone_line(owner.as_slice(), 30, Rtype::A, &[1, 2]), None);
    }

    /// NSD 4.6 took no exported zone that was signed: to it, times in seconds are none.
    #[test]
    fn the_times_of_signatures_are_dates() {
        let owner = Name::vec_from_str("www.demo.test").unwrap();
        let signer = Name::vec_from_str("demo.test").unwrap();
        let line = |rtype: Rtype, times: [u32; 2]| {
            let head = [&rtype.to_int().to_be_bytes()[..], &[13, 3, 0, 0, 14, 16]].concat();
            let times = times.map(u32::to_be_bytes).concat();
            let rdata = [&head, &times, &[0x12, 0x34][..], signer.as_slice(), &[0xfb; 4]].concat();
            zone_line(owner.as_slice(), 30, Rtype::RRSIG, &rdata).unwrap()
        };
        assert_eq!(
            line(Rtype::A, [1_796_083_200, 1_795_305_600]),
            "www.demo.test. 30 IN RRSIG A 13 3 3600 20261201000000 20261122000000 4660 demo.test. +/v7+w=="
        );
        assert_eq!(
            line(Rtype::HTTPS, [u32::MAX, 951_782_400]),
            "www.demo.test. 30 IN RRSIG HTTPS 13 3 3600 21060207062815 20000229000000 4660 demo.test. +/v7+w=="
        );
    }
}
