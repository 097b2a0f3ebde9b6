//! DNS cookies (RFC 7873) in the form that all servers of a name can agree on (RFC 9018): a sender that shows the cookie
//! which was sent to its address has that address.

use std::net::IpAddr;

use domain::base::{
    Serial,
    opt::cookie::{Cookie, StandardServerCookie},
};

use super::{Edns, Query};

/// Length of a cookie that a reply carries, in bytes: the client's 8 and ours of 16.
pub const COOKIE_BYTES: usize = 24;
/// How long a server cookie holds, in seconds (RFC 9018 section 4.3).
const LIFETIME_S: i32 = 3_600;
/// When the client is given a new one, in seconds of age: so that one who asks now and then never shows an old one.
const RENEWED_S: i32 = 1_800;
/// How far in the future it may have been made, in seconds: by a server of the same secret whose clock is ahead.
const AHEAD_S: i32 = -300;

/// What server cookies are made with.
#[derive(Clone, PartialEq, Eq)]
pub struct CookieSecrets {
    /// New ones.
    pub made_with: [u8; 16],
    /// Those are taken as well: the secret of before, or the one that comes next (RFC 9018 section 5).
    pub also_taken: Option<[u8; 16]>,
}

impl std::fmt::Debug for CookieSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CookieSecrets")
    }
}

/// A query's cookie, looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CookieJudged {
    /// Whether it proves that the sender has the address that the query came from.
    pub proven: bool,
    /// Whether it has a server cookie, valid or not.
    pub shown: bool,
    /// What the reply carries.
    pub reply: [u8; COOKIE_BYTES],
}

impl CookieSecrets {
    /// Looks at the cookie of a query from `peer`, at `unix_s` seconds since the Unix epoch (of which 32 bits count). None
    /// if it has none.
    #[must_use]
    pub fn judge(&self, query: &Query<'_>, peer: IpAddr, unix_s: u32) -> Option<CookieJudged> {
        self.judge_alone(query.edns.as_ref()?, peer, unix_s)
    }

    /// The same for a cookie that came without a question.
    #[must_use]
    pub fn judge_alone(&self, edns: &Edns, peer: IpAddr, unix_s: u32) -> Option<CookieJudged> {
        self.judge_cookie(edns.cookie.as_ref()?, peer, unix_s)
    }

    fn judge_cookie(&self, cookie: &Cookie, peer: IpAddr, unix_s: u32) -> Option<CookieJudged> {
        let shown = cookie.server().and_then(|server| server.try_to_standard());
        let holds = |secret: &[u8; 16], youngest_s: i32, oldest_s: i32| {
            let in_time = |made: Serial| (youngest_s..=oldest_s).contains(&age_s(made, unix_s));
            shown.is_some_and(|server| in_time(server.timestamp()) && server.check_hash(cookie.client(), peer, secret))
        };
        let kept = shown.filter(|_| holds(&self.made_with, AHEAD_S, RENEWED_S));
        let proven = kept.is_some()
            || holds(&self.made_with, RENEWED_S, LIFETIME_S)
            || self.also_taken.is_some_and(|secret| holds(&secret, AHEAD_S, LIFETIME_S));
        let made = || StandardServerCookie::calculate(cookie.client(), Serial(unix_s), peer, &self.made_with);
        let server = kept.unwrap_or_else(made);
        let mut reply = [0; COOKIE_BYTES];
        let (ours, theirs) = (reply.split_at_mut_checked(8)?, cookie.client().into_octets());
        ours.0.copy_from_slice(&theirs);
        ours.1.copy_from_slice(&octets(server));
        Some(CookieJudged { proven, shown: cookie.server().is_some(), reply })
    }
}

/// By serial arithmetic (RFC 9018 section 4.3): negative if it was made in the future.
fn age_s(made: Serial, unix_s: u32) -> i32 {
    unix_s.wrapping_sub(made.into_int()).cast_signed()
}

fn octets(cookie: StandardServerCookie) -> [u8; 16] {
    let mut octets = [0; 16];
    octets[0] = cookie.version();
    octets[1..4].copy_from_slice(&cookie.reserved());
    octets[4..8].copy_from_slice(&cookie.timestamp().into_int().to_be_bytes());
    octets[8..].copy_from_slice(&cookie.hash());
    octets
}
