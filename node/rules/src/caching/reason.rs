//! Every outcome's name: the same word in code, log, metric, `Cache-Status` and screen.

/// Writes the enum, its texts, meanings, advice and codes from one table, so that none can be forgotten.
macro_rules! reasons {
    ($($code:literal $name:ident $text:literal $meaning:literal $advice:literal)+) => {
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

            /// What an operator can do about it, in a sentence or two. Words in backquotes are keys, fields and metrics.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self {
                    $(Self::$name => $advice,)+
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
        "Usual for what is asked for the first time. If it stays frequent, look for parameters that only track people (`query`), short lifetimes, or a cache that is too small (`meridian_store_evictions_total`)."
    2 VaryMiss "vary-miss" "Responses are stored under this address, but none for this request's headers."
        "Look at `Vary`: bring the fields that it names into one form (`normalise`), or let the origin vary by less."
    3 HitForMiss "hit-for-miss" "The last response under this address could not be kept, so requests for it do not wait for each other."
        "The reason that the response could not be kept stands beside it in `not_stored`: begin there."
    4 Collapsed "collapsed" "The request shared a fetch that another one had begun."
        "Nothing: this is what keeps a crowd from the origin."
    5 Stale "stale" "The stored response is past its lifetime."
        "Usual. If the object changes more rarely than this, let the origin name a longer lifetime (`s-maxage`), or the route (`ttl`), and purge on change."
    6 NoCache "no-cache" "The stored response may only be used after asking the origin."
        "The origin says `no-cache`. If the object may be reused for a while, let it say `s-maxage` and purge on change."
    7 Purged "purged" "The stored response was purged."
        "Usual after a purge. If it is frequent, purge by finer tags, or softly."
    8 SoftPurged "soft-purged" "The stored response was marked stale by a purge."
        "Usual after a soft purge: the next request asks the origin whether it is still the same."
    9 StaleWhileRevalidate "stale-while-revalidate" "A stale response was served while a fresh one is fetched, as its origin allows."
        "Nothing: the client did not wait. If answers are too old, shorten `stale-while-revalidate`."
    10 StaleIfError "stale-if-error" "A stale response was served because the origin failed."
        "Look at the origin: it failed. Clients did not notice, as long as `stale_if_error` lasts."
    11 ChunkLost "chunk-lost" "A part of the stored body was gone."
        "Rare is usual. If it is frequent, the cache is too small for bodies of this size, or its disk fails."

    12 LiveRoute "live-route" "The route's class keeps nothing."
        "The operator wants it so (`class = \"live\"`). For answers that may be some seconds old, take `tight`."
    13 NoVarySearch "no-vary-search" "What is stored for another query answers this one too, by its No-Vary-Search."
        "Nothing: the origin says that the parameters in which the queries differ do not matter."
    14 RequestNoCache "request-no-cache" "The client asked for something fresher than what is stored, and the route lets that count."
        "Clients make the cache ask. If they should not be able to, leave out `honour_request_cache_control`."
    15 RequestMaxStale "request-max-stale" "A stale response was served because the client bears it, and the route lets that count."
        "Nothing: the client asked for it. If it should not be able to, leave out `honour_request_cache_control`."
    16 OnlyIfCached "only-if-cached" "The client wanted a stored response or none, and none could be served."
        "Nothing: the client asked for it, and got 504."

    // not looked up
    20 CacheOff "cache-off" "The route keeps nothing."
        "The operator wants it so (`cache = \"off\"`)."
    21 Method "method" "Only GET and HEAD are answered from the cache."
        "Nothing: what a client writes goes to the origin."
    22 RequestBody "request-body" "A GET or HEAD with a body is passed on."
        "Look for the client: a body of a GET has no meaning, and some servers take it for the next request."

    // not kept
    30 NoStore "no-store" "The response forbids storing it."
        "If it may be shared for a while, let the origin say `s-maxage` instead of `no-store`."
    31 Private "private" "The response is for one user only."
        "If it is the same for all, let the origin say `public` or `s-maxage`; if it is not, nothing."
    32 RequestNoStore "request-no-store" "The request forbids storing its response."
        "Nothing: the client asked for it."
    33 Authorization "authorization" "The request was authenticated, and the response does not say that it may be shared."
        "If it is the same for all who may see it, let the origin say `public`, `s-maxage` or `must-revalidate`."
    34 SetCookie "set-cookie" "The response sets a cookie."
        "Let the origin set cookies only where they are needed: not on what is the same for all."
    35 VaryStar "vary-star" "The response varies by more than the request's headers."
        "Let the origin name the fields that the response depends on."
    36 VaryTooWide "vary-too-wide" "The response varies by more headers than are kept apart, or by something that is no header name."
        "Let the origin vary by fewer fields, and by none that is different for each client, such as `User-Agent` or `Cookie`."
    37 NoLifetime "no-lifetime" "The response names no lifetime and nothing to revalidate it with."
        "Let the origin name a lifetime (`Cache-Control: s-maxage`), or the route (`default_ttl`), or let it send an `ETag`."
    38 Expired "expired" "The response came past its lifetime, with nothing to revalidate it with."
        "Look at the clock of the origin, and at caches between it and the node: `Age` is larger than the lifetime."
    39 MustUnderstand "must-understand" "The response may only be kept by a cache that knows its status, and this one does not."
        "Nothing, unless the origin says `must-understand` by mistake."
    40 Status "status" "Responses of this status are kept only with a lifetime of their own."
        "If the status may be kept, let the origin name a lifetime for it, or the route (`negative_ttl`)."
    41 Interim "interim" "The response is not a final one."
        "Look at the origin: a 1xx came in place of an answer."
    42 Partial "partial" "The response is a part of a representation."
        "Let the origin send a strong `ETag` and answer single ranges: then parts can be kept."
    43 RequestSpecific "request-specific" "The response answers a condition or range of this one request."
        "Look at the origin: it answered a condition that it was not asked, or a range."
    44 TooLarge "too-large" "The response is larger than the objects that are kept."
        "If it should be kept, raise `limits.object_size`; large files are kept in slices if the origin answers ranges."
    45 TagsOversize "tags-oversize" "The response carries more or longer tags than are kept, so that it falls to every purge by a tag of its site."
        "Let the origin send fewer or shorter tags; a tag that all of a site have is not needed to purge everything."
    46 Incomplete "incomplete" "The response broke off before its end."
        "Look at the origin and the way to it: it announced more than it sent, or the connection broke."
    47 PurgedDuringFill "purged-during-fill" "A purge came while the response was fetched."
        "Usual around a purge: the response may be older than the change. The next one is kept."
    48 Head "head" "A response to HEAD has no body to keep."
        "Nothing."
    49 Unverifiable "unverifiable" "The origin confirmed another response than the one that is stored."
        "Look at the origin: it answered 304 with the validator of another response. Behind several servers, let all make the same `ETag`."

    50 RouteTtl "route-ttl" "The route's lifetime stands for the one that the response names."
        "The operator wants it so (`ttl`)."
    51 RouteBound "route-bound" "The lifetime that the response names was cut or raised to the route's bound."
        "The operator wants it so (`ttl_min`, `ttl_max`, or the route's class)."
    52 NegativeTtl "negative-ttl" "The response is an error, and kept only as long as the route keeps errors."
        "The operator wants it so (`negative_ttl`, or the route's class)."
    53 DeceptivePath "deceptive-path" "The path looks like a file's and hides an end that servers behind may read otherwise."
        "Look at who asks: this is how pages of one user are brought into a cache. A harmless path of this kind needs another class than `static`."
    54 ContentMismatch "content-mismatch" "The path looks like a file's, and the response's type is another."
        "Look at what the path leads to: if it is a page and no file, give it another class than `static`; if it is a file, correct its `Content-Type`."
    55 VariantCap "variant-cap" "As many variants of this URL are stored as the route keeps."
        "Let the origin vary by less, bring the fields into one form (`normalise`), or raise `variants_max`."
    110 Refiled "refiled" "The origin renewed the response, and it is to be filed by other things than before."
        "Usual once after the origin changes `No-Vary-Search`; if it is frequent, let the origin send the same field with 200 and 304."
    100 RangesIgnored "ranges-ignored" "The origin answers with the whole when it is asked for a part."
        "Let the origin answer ranges: then only what is asked for is fetched of large files."
    101 PartUnproven "part-unproven" "The response is a part, and nothing proves that other parts would be of the same body."
        "Let the origin send a strong `ETag` with its parts, and the range that it was asked for."
    102 PartlyStored "partly-stored" "Of what was asked for only parts are stored; the rest is fetched."
        "Usual for large files: the rest is fetched while the client reads."

    // how sure the node is of its ledger
    120 LeaseLapsed "lease-lapsed" "The node cannot be sure to have heard of every purge for as long as the route allows, so the origin is asked."
        "Look at the mesh between this node and the witnesses of the realm (`meridian_purge_lease_age_seconds`)."
    121 Unconfirmed "unconfirmed" "Served from the store by a node that has been cut off from the witnesses for some seconds: a purge may be missing."
        "Look at the mesh between this node and the witnesses of the realm; what may not be stale needs a route with `max_staleness`."
    122 AfterArrival "after-arrival" "Another node asked for a response that is fetched after it asked: it had heard of a purge that this one had not."
        "Usual for moments after a purge; if it lasts, look at the mesh and at `meridian_purge_effect_seconds`."

    // refused at the door
    60 MethodRefused "method-refused" "The method is not served here."
        "Nothing: CONNECT and TRACE are for proxies and for tests."
    61 MethodUnknown "method-unknown" "The method is longer than any that is known."
        "Nothing; if a client of yours sends it, correct the client."
    62 HostMissing "host-missing" "The request names no host."
        "Correct the client: HTTP/1.1 demands `Host`."
    63 HostRepeated "host-repeated" "The request names its host more than once, or two different ones."
        "Correct the client, or what stands before the node; it may be an attack on what lies behind."
    64 HostInvalid "host-invalid" "The request's host is not a host name or address."
        "Correct the client, or the name in DNS that led here."
    65 TransferEncoding "transfer-encoding" "The request's transfer coding is not exactly `chunked`."
        "Correct the client, or what stands before the node; it may be an attempt to smuggle requests."
    66 ContentLength "content-length" "The request's length is not one number, or stands beside a transfer coding."
        "Correct the client, or what stands before the node; it may be an attempt to smuggle requests."
    67 ConnectionNames "connection-names" "The request's Connection field names a field that frames or routes the message."
        "Correct the client, or what stands before the node; it may be an attempt to smuggle requests."
    68 FieldName "field-name" "The request has a field that some servers take for a framing field."
        "Correct the client; it may be an attempt to smuggle requests."
    69 Target "target" "The request's target is malformed or holds octets that are refused."
        "Correct the link or the client: octets that are no text have to be percent-encoded."
    70 UnknownSite "unknown-site" "No site here answers for the host."
        "If it should be served here, name the host in the site's `hosts` on every node; else look at the DNS record that leads here."
    71 OutsideJurisdiction "outside-jurisdiction" "The site's data may not be on this node."
        "Use the fleet's DNS for the site: it names nodes inside only. Who came here by other ways is refused on purpose."
    72 PreconditionFailed "precondition-failed" "The stored response does not meet the request's precondition."
        "Nothing: the client asked for it."
    73 BodyTooLarge "body-too-large" "The request's body is larger than is taken."
        "If such uploads are wanted, raise `limits.body_size`."
    74 HeadTooLarge "head-too-large" "The request's head is larger than is taken."
        "If such requests are wanted, raise `limits.head_size` or `limits.target_size`; most often a cookie has grown."
    75 Overloaded "overloaded" "The node has no room for the request now."
        "More nodes, or a look at what so many wait for: it is one object that comes slowly."
    76 Stopping "stopping" "The node is about to stop."
        "Nothing: clients come again, and are led to another node."
    77 Loop "loop" "The request has come through this node before."
        "Look at the site's origin: it leads back to this fleet."
    78 NotRelayed "not-relayed" "The request came on a connection that another site's operator wants relayed, and this site's does not."
        "Nothing: the client opens a connection of its own. If this site's connections should be relayed too, set its `misrouted_tls`."

    // the way to the origin
    80 OriginUnreachable "origin-unreachable" "No connection to the origin could be made."
        "Look at the origin, at its name in DNS and at the network; the log has the cause."
    81 OriginReset "origin-reset" "The origin closed the connection before it had answered."
        "Look at the origin's log: it gave up the request. An idle timeout shorter than the node's is harmless."
    82 OriginTimeout "origin-timeout" "The origin took longer than it may."
        "Look at what the origin is waiting for; if it needs the time, raise its `deadlines`."
    83 OriginMalformed "origin-malformed" "The origin's answer is not valid HTTP, or ambiguous."
        "Look at the origin, or at what stands before it: its answer could be read in two ways."
    84 OriginError "origin-error" "The origin answered with a server error."
        "Look at the origin's log."
    85 NoHealthyOrigin "no-healthy-origin" "No origin of the site is healthy."
        "Look at the origins and at their `health` check; old answers are served where `stale_if_error` allows."
    86 OriginBusy "origin-busy" "All connections that the origin may have are in use."
        "Raise the origin's `connections`, if it bears more."
    87 PeerFailed "peer-failed" "The node that owns the object did not answer."
        "Look at the mesh between the nodes of the region; the origin was asked instead."
    88 BreakerOpen "breaker-open" "Too much of what was asked of the origin failed, so it is left alone for a moment."
        "Look at the origin: most of what it was asked failed. One request in a while finds out whether it is back."
    89 OriginLimited "origin-limited" "The origin has as many requests as it answers in good time."
        "Look at the origin: it gets slower with load, or hangs; or give it help."
    90 Paced "paced" "The origin is sent no more requests a second than its operator allows."
        "Raise `fetches_per_second`, if the origin bears more; usual after a purge of everything."
    91 SiteBusy "site-busy" "The site has as many fetches under way as one site may have on this node."
        "Look at the origin of the site: it is slow, and its requests pile up."
}

impl Reason {
    /// Whether a request was held back to spare the node or an origin, and answered with an error.
    #[must_use]
    pub const fn is_shed(self) -> bool {
        matches!(
            self,
            Self::Overloaded
                | Self::OriginBusy
                | Self::BreakerOpen
                | Self::OriginLimited
                | Self::Paced
                | Self::SiteBusy
        )
    }
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
            assert!(reason.advice().ends_with('.'), "{word} has no advice");
            assert_eq!(Reason::from_code(reason.code()), Some(*reason));
        }
        assert_eq!(Reason::from_code(0), None);
    }
}
