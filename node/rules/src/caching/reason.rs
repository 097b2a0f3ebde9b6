//! Every outcome's name: the same word in code, log, metric, `Cache-Status` and screen.

/// Writes the enum, its texts, meanings and codes from one table, so that none can be forgotten.
macro_rules! reasons {
    ($($code:literal $name:ident $text:literal $meaning:literal)+) => {
        /// Why a request went the way it did. A closed set; the codes are kept on disk and never given to another.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Reason {
            $(#[doc = $meaning] $name = $code,)+
        }

        impl Reason {
            /// All of them, by code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The reason as one kebab-case word, fit for `Cache-Status` (an RFC 9651 token) and metric labels.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }

            /// What it means, in one sentence for people.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $meaning,)+
                }
            }

            /// The stable number that it is stored as.
            #[must_use]
            pub const fn code(self) -> u16 {
                self as u16
            }

            /// The reason that is stored as `code`, if this version knows it.
            #[must_use]
            pub const fn from_code(code: u16) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)+
                    _ => None,
                }
            }
        }
    };
}

reasons! {
    // looked up and not found as wanted
    1 UriMiss "uri-miss" "Nothing is stored under this address."
    2 VaryMiss "vary-miss" "Responses are stored under this address, but none for this request's headers."
    3 HitForMiss "hit-for-miss" "The last response under this address could not be kept, so requests for it do not wait for each other."
    4 Collapsed "collapsed" "The request shared a fetch that another one had begun."
    5 Stale "stale" "The stored response is past its lifetime."
    6 NoCache "no-cache" "The stored response may only be used after asking the origin."
    7 Purged "purged" "The stored response was purged."
    8 SoftPurged "soft-purged" "The stored response was marked stale by a purge."
    9 StaleWhileRevalidate "stale-while-revalidate" "A stale response was served while a fresh one is fetched, as its origin allows."
    10 StaleIfError "stale-if-error" "A stale response was served because the origin failed."
    11 ChunkLost "chunk-lost" "A part of the stored body was gone."

    12 LiveRoute "live-route" "The route's class keeps nothing."
    13 NoVarySearch "no-vary-search" "What is stored for another query answers this one too, by its No-Vary-Search."
    14 RequestNoCache "request-no-cache" "The client asked for something fresher than what is stored, and the route lets that count."
    15 RequestMaxStale "request-max-stale" "A stale response was served because the client bears it, and the route lets that count."
    16 OnlyIfCached "only-if-cached" "The client wanted a stored response or none, and none could be served."

    // not looked up
    20 CacheOff "cache-off" "The route keeps nothing."
    21 Method "method" "Only GET and HEAD are answered from the cache."
    22 RequestBody "request-body" "A GET or HEAD with a body is passed on."

    // not kept
    30 NoStore "no-store" "The response forbids storing it."
    31 Private "private" "The response is for one user only."
    32 RequestNoStore "request-no-store" "The request forbids storing its response."
    33 Authorization "authorization" "The request was authenticated, and the response does not say that it may be shared."
    34 SetCookie "set-cookie" "The response sets a cookie."
    35 VaryStar "vary-star" "The response varies by more than the request's headers."
    36 VaryTooWide "vary-too-wide" "The response varies by more headers than are kept apart, or by something that is no header name."
    37 NoLifetime "no-lifetime" "The response names no lifetime and nothing to revalidate it with."
    38 Expired "expired" "The response came past its lifetime, with nothing to revalidate it with."
    39 MustUnderstand "must-understand" "The response may only be kept by a cache that knows its status, and this one does not."
    40 Status "status" "Responses of this status are kept only with a lifetime of their own."
    41 Interim "interim" "The response is not a final one."
    42 Partial "partial" "The response is a part of a representation."
    43 RequestSpecific "request-specific" "The response answers a condition or range of this one request."
    44 TooLarge "too-large" "The response is larger than the objects that are kept."
    45 TagsOversize "tags-oversize" "The response carries more or longer tags than are kept, so that a purge could miss it."
    46 Incomplete "incomplete" "The response broke off before its end."
    47 PurgedDuringFill "purged-during-fill" "A purge came while the response was fetched."
    48 Head "head" "A response to HEAD has no body to keep."
    49 Unverifiable "unverifiable" "The origin confirmed another response than the one that is stored."

    50 RouteTtl "route-ttl" "The route's lifetime stands for the one that the response names."
    51 RouteBound "route-bound" "The lifetime that the response names was cut or raised to the route's bound."
    52 NegativeTtl "negative-ttl" "The response is an error, and kept only as long as the route keeps errors."
    53 DeceptivePath "deceptive-path" "The path looks like a file's and hides an end that servers behind may read otherwise."
    54 ContentMismatch "content-mismatch" "The path looks like a file's, and the response's type is another."
    55 VariantCap "variant-cap" "As many variants of this URL are stored as the route keeps."
    100 RangesIgnored "ranges-ignored" "The origin answers with the whole when it is asked for a part."
    101 PartUnproven "part-unproven" "The response is a part, and nothing proves that other parts would be of the same body."
    102 PartlyStored "partly-stored" "Of what was asked for only parts are stored; the rest is fetched."

    // refused at the door
    60 MethodRefused "method-refused" "The method is not served here."
    61 MethodUnknown "method-unknown" "The method is longer than any that is known."
    62 HostMissing "host-missing" "The request names no host."
    63 HostRepeated "host-repeated" "The request names its host more than once, or two different ones."
    64 HostInvalid "host-invalid" "The request's host is not a host name or address."
    65 TransferEncoding "transfer-encoding" "The request's transfer coding is not exactly `chunked`."
    66 ContentLength "content-length" "The request's length is not one number, or stands beside a transfer coding."
    67 ConnectionNames "connection-names" "The request's Connection field names a field that frames or routes the message."
    68 FieldName "field-name" "The request has a field that some servers take for a framing field."
    69 Target "target" "The request's target is malformed or holds octets that are refused."
    70 UnknownSite "unknown-site" "No site here answers for the host."
    71 OutsideJurisdiction "outside-jurisdiction" "The site's data may not be on this node."
    72 PreconditionFailed "precondition-failed" "The stored response does not meet the request's precondition."
    73 BodyTooLarge "body-too-large" "The request's body is larger than is taken."
    74 HeadTooLarge "head-too-large" "The request's head is larger than is taken."
    75 Overloaded "overloaded" "The node has no room for the request now."
    76 Stopping "stopping" "The node is about to stop."
    77 Loop "loop" "The request has come through this node before."

    // the way to the origin
    80 OriginUnreachable "origin-unreachable" "No connection to the origin could be made."
    81 OriginReset "origin-reset" "The origin closed the connection before it had answered."
    82 OriginTimeout "origin-timeout" "The origin took longer than it may."
    83 OriginMalformed "origin-malformed" "The origin's answer is not valid HTTP, or ambiguous."
    84 OriginError "origin-error" "The origin answered with a server error."
    85 NoHealthyOrigin "no-healthy-origin" "No origin of the site is healthy."
    86 OriginBusy "origin-busy" "All connections that the origin may have are in use."
    87 PeerFailed "peer-failed" "The node that owns the object did not answer."
    88 BreakerOpen "breaker-open" "Too much of what was asked of the origin failed, so it is left alone for a moment."
    89 OriginLimited "origin-limited" "The origin has as many requests as it answers in good time."
    90 Paced "paced" "The origin is sent no more requests a second than its operator allows."
    91 SiteBusy "site-busy" "The site has as many fetches under way as one site may have on this node."
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_word_and_code_and_a_sentence() {
        let mut words = std::collections::BTreeSet::new();
        for reason in Reason::ALL {
            let word = reason.as_str();
            assert!(word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{word} is not kebab-case");
            assert!(words.insert(word), "{word} is used twice");
            assert!(reason.meaning().ends_with('.'), "{word} has no sentence");
            assert_eq!(Reason::from_code(reason.code()), Some(*reason));
        }
        assert_eq!(Reason::from_code(0), None);
    }
}
