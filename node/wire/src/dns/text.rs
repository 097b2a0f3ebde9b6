//! Records as zone files have them (RFC 1035 section 5).

use domain::{
    base::{
        ParseRecordData as _, ParsedName, Record, Ttl,
        iana::{Class, Rtype},
        name::Name,
        zonefile_fmt::{DisplayKind, ZonefileFmt as _},
    },
    dep::octseq::Parser,
    rdata::AllRecordData,
};

/// A record as a line of a zone file: owner, TTL, class, type and data. The owner and the data are in wire format, without
/// compressed names. None if they are not.
#[must_use]
pub fn zone_line(owner: &[u8], ttl_s: u32, rtype: Rtype, rdata: &[u8]) -> Option<String> {
    let owner = Name::from_slice(owner).ok()?;
    let mut parser = Parser::from_ref(rdata);
    let data = AllRecordData::<&[u8], ParsedName<&[u8]>>::parse_rdata(rtype, &mut parser).ok()??;
    let record = Record::new(owner, Class::IN, Ttl::from_secs(ttl_s), data);
    Some(record.display_zonefile(DisplayKind::Simple).to_string())
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
}
