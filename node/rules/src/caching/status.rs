//! `Cache-Status` (RFC 9211).

use http::{HeaderValue, StatusCode};
use region_config::NodeId;

use super::Reason;

/// A node's name as it stands at the head of its `Cache-Status` member: `meridian.<node>`. Made once, shared by all
/// requests.
#[derive(Debug, Clone)]
pub struct CacheName(Box<[u8]>);

impl CacheName {
    /// The name for a node.
    #[must_use]
    pub fn new(node: &NodeId) -> Self {
        Self([b"meridian.", node.as_str().as_bytes()].concat().into_boxed_slice())
    }
}

/// Why a request was forwarded (RFC 9211 section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// The cache was told not to handle it.
    Bypass,
    /// The method is not answered from the cache.
    Method,
    /// Nothing is stored under this address.
    UriMiss,
    /// What is stored under this address is for other headers.
    VaryMiss,
    /// What is stored could not be used for another reason.
    Miss,
    /// What is stored is stale.
    Stale,
    /// Only parts of what was asked for are stored.
    Partial,
}

impl Forward {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Miss => "miss",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// What a node did with a request, as one member of `Cache-Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheStatus {
    /// Answered from the cache, without forwarding.
    pub hit: bool,
    /// Why it was forwarded, if it was.
    pub fwd: Option<Forward>,
    /// The status that came back, if one did and the client sees another or needs to know.
    pub fwd_status: Option<StatusCode>,
    /// What is left of the response's lifetime, in seconds; negative once it is stale.
    pub ttl_s: Option<i64>,
    /// Whether the response was kept.
    pub stored: bool,
    /// Whether the request shared a fetch that another one had begun.
    pub collapsed: bool,
    /// More about it.
    pub detail: Option<Reason>,
}

impl CacheStatus {
    const EMPTY: Self =
        Self { hit: false, fwd: None, fwd_status: None, ttl_s: None, stored: false, collapsed: false, detail: None };

    /// A response from the cache.
    #[must_use]
    pub const fn hit(ttl_s: i64) -> Self {
        Self { hit: true, ttl_s: Some(ttl_s), ..Self::EMPTY }
    }

    /// A response that was asked for elsewhere.
    #[must_use]
    pub const fn forwarded(fwd: Forward) -> Self {
        Self { fwd: Some(fwd), ..Self::EMPTY }
    }

    /// A response that the node made up itself: a refusal.
    #[must_use]
    pub const fn refused(reason: Reason) -> Self {
        Self { detail: Some(reason), ..Self::EMPTY }
    }

    /// The same with a reason.
    #[must_use]
    pub const fn because(self, reason: Reason) -> Self {
        Self { detail: Some(reason), ..self }
    }

    /// The member, as in `meridian.a1; hit; ttl=55`, on the stack.
    #[must_use]
    pub fn line(&self, name: &CacheName) -> Line {
        let mut line = Line { bytes: [0; LINE_BYTES], length: 0 };
        line.put(&name.0);
        if self.hit {
            line.put(b"; hit");
        }
        if let Some(fwd) = self.fwd {
            line.put(b"; fwd=");
            line.put(fwd.as_str().as_bytes());
        }
        if let Some(status) = self.fwd_status {
            line.put(b"; fwd-status=");
            line.put(status.as_str().as_bytes());
        }
        if let Some(ttl) = self.ttl_s {
            line.put(b"; ttl=");
            line.put_number(ttl);
        }
        if self.stored {
            line.put(b"; stored");
        }
        if self.collapsed {
            line.put(b"; collapsed");
        }
        if let Some(reason) = self.detail {
            line.put(b"; detail=");
            line.put(reason.as_str().as_bytes());
        }
        line
    }

    /// The member as a field value, for one more line of `Cache-Status`: one allocation.
    #[must_use]
    pub fn value(&self, name: &CacheName) -> HeaderValue {
        // all that a line holds is visible ASCII, so that this does not fail
        HeaderValue::from_bytes(self.line(name).as_bytes()).unwrap_or(HeaderValue::from_static("meridian"))
    }
}

/// Room for the longest member: a name of 72 bytes, and all parameters.
const LINE_BYTES: usize = 256;

/// A member of `Cache-Status` as octets.
#[derive(Debug, Clone)]
pub struct Line {
    bytes: [u8; LINE_BYTES],
    length: usize,
}

impl Line {
    /// The octets: visible ASCII and spaces.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Appends a part. One that does not fit is left out; none is that long.
    fn put(&mut self, part: &[u8]) {
        let end = self.length + part.len();
        if let Some(room) = self.bytes.get_mut(self.length..end) {
            room.copy_from_slice(part);
            self.length = end;
        }
    }

    fn put_number(&mut self, number: i64) {
        if number < 0 {
            self.put(b"-");
        }
        let mut digits = [0; 20];
        let mut start = digits.len();
        let mut rest = number.unsigned_abs();
        for (at, slot) in digits.iter_mut().enumerate().rev() {
            *slot = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            start = at;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.put(digits.get(start..).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn check(status: &CacheStatus, expected: &str) {
        let name = CacheName::new(&NodeId::parse("eu-1").unwrap());
        assert_eq!(status.value(&name), expected);
        let value = status.value(&name);
        let list: sfv::List = sfv::Parser::new(value.as_bytes()).parse().unwrap();
        assert_eq!(list.len(), 1, "{expected} is one member by RFC 9211");
    }

    #[test]
    fn a_hit_tells_what_is_left_of_its_lifetime() {
        check(&CacheStatus::hit(55), "meridian.eu-1; hit; ttl=55");
        check(&CacheStatus::hit(0), "meridian.eu-1; hit; ttl=0");
        let stale = CacheStatus::hit(-7).because(Reason::StaleWhileRevalidate);
        check(&stale, "meridian.eu-1; hit; ttl=-7; detail=stale-while-revalidate");
    }

    #[test]
    fn a_forwarded_request_tells_why_and_what_came_of_it() {
        let miss = CacheStatus {
            fwd_status: Some(StatusCode::OK),
            stored: true,
            ttl_s: Some(60),
            ..CacheStatus::forwarded(Forward::UriMiss)
        };
        check(&miss, "meridian.eu-1; fwd=uri-miss; fwd-status=200; ttl=60; stored");
        let shared = CacheStatus { collapsed: true, ..CacheStatus::forwarded(Forward::Stale) };
        check(&shared, "meridian.eu-1; fwd=stale; collapsed");
        let kept_out = CacheStatus::forwarded(Forward::Miss).because(Reason::SetCookie);
        check(&kept_out, "meridian.eu-1; fwd=miss; detail=set-cookie");
    }

    #[test]
    fn a_refusal_is_neither_hit_nor_forwarded() {
        check(&CacheStatus::refused(Reason::OutsideJurisdiction), "meridian.eu-1; detail=outside-jurisdiction");
    }

    #[test]
    fn the_longest_member_has_room() {
        let name = CacheName::new(&NodeId::parse(&"n".repeat(63)).unwrap());
        for reason in Reason::ALL {
            let most = CacheStatus {
                hit: true,
                fwd: Some(Forward::VaryMiss),
                fwd_status: Some(StatusCode::OK),
                ttl_s: Some(i64::MIN),
                stored: true,
                collapsed: true,
                detail: Some(*reason),
            };
            assert!(most.value(&name).to_str().unwrap().ends_with(reason.as_str()), "{reason}");
        }
    }
}
