//! Freshness beside a model of it: RFC 9111 section 4.2 written down sentence by sentence, slowly and apart from the code
//! that decides. Dates are whole seconds near one moment; fields are given as numbers, and written as text for the code.
#![allow(clippy::unwrap_used, reason = "tests")]

use http::{HeaderMap, Method, StatusCode};
use proptest::prelude::*;
use region_config::Policy;

use super::*;
use crate::purge::Standing;

/// 2026-11-22T00:00:00Z
const NOON_S: i64 = 1_795_305_600;

/// A response, as numbers; times are seconds from [`NOON_S`], when the response came.
#[derive(Debug, Clone)]
struct Response {
    max_age: Option<u32>,
    s_maxage: Option<u32>,
    expires: Option<i64>,
    date: Option<i64>,
    age: Option<u32>,
    last_modified: Option<i64>,
    must_revalidate: bool,
    no_cache: bool,
    stale_while_revalidate: Option<u32>,
    /// How long before it came the request was sent.
    delay: u32,
}

fn response() -> impl Strategy<Value = Response> {
    let seconds = || proptest::option::of(0u32..400);
    let date = || proptest::option::of(-400i64..400);
    (
        (seconds(), seconds(), date(), date(), seconds()),
        (proptest::option::of(-4000i64..0), any::<bool>(), proptest::bool::weighted(0.1), seconds(), 0u32..20),
    )
        .prop_map(|((max_age, s_maxage, expires, date, age), (last_modified, must, no_cache, window, delay))| {
            Response {
                max_age,
                s_maxage,
                expires,
                date,
                age,
                last_modified,
                must_revalidate: must,
                no_cache,
                stale_while_revalidate: window,
                delay,
            }
        })
}

impl Response {
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut put = |name: &'static str, value: String| headers.append(name, value.parse().unwrap());
        let numbers = [
            ("max-age", self.max_age),
            ("s-maxage", self.s_maxage),
            ("stale-while-revalidate", self.stale_while_revalidate),
        ];
        for (name, seconds) in numbers {
            if let Some(seconds) = seconds {
                put("cache-control", format!("{name}={seconds}"));
            }
        }
        for (name, flag) in [("must-revalidate", self.must_revalidate), ("no-cache", self.no_cache), ("public", true)] {
            if flag {
                put("cache-control", name.to_owned());
            }
        }
        let dates = [("expires", self.expires), ("date", self.date), ("last-modified", self.last_modified)];
        for (name, seconds) in dates {
            if let Some(seconds) = seconds {
                put(name, imf(NOON_S + seconds));
            }
        }
        if let Some(age) = self.age {
            put("age", age.to_string());
        }
        put("etag", "\"1\"".to_owned());
        headers
    }

    /// Section 4.2.1, and 4.2.2 for a cache that guesses a tenth.
    fn freshness_lifetime(&self, guesses: bool) -> Option<i64> {
        if let Some(seconds) = self.s_maxage {
            return Some(i64::from(seconds));
        }
        if let Some(seconds) = self.max_age {
            return Some(i64::from(seconds));
        }
        // a response without a date gets the time at which it came
        let date = self.date.unwrap_or(0);
        if let Some(expires) = self.expires {
            return Some(if expires > date { expires - date } else { 0 });
        }
        let changed = self.last_modified.filter(|_| guesses)?;
        Some(if date > changed { (date - changed) / 10 } else { 0 })
    }

    /// Section 4.2.3.
    fn current_age(&self, resident_time: i64) -> i64 {
        let age_value = i64::from(self.age.unwrap_or(0));
        let apparent_age = match self.date {
            Some(date) if date < 0 => -date,
            _ => 0,
        };
        let response_delay = i64::from(self.delay);
        let corrected_age_value = age_value + response_delay;
        let corrected_initial_age = if apparent_age > corrected_age_value { apparent_age } else { corrected_age_value };
        corrected_initial_age + resident_time
    }
}

/// A date as section 5.6.7 of RFC 9110 prefers it; a day's border is crossed at [`NOON_S`] only.
fn imf(unix_s: i64) -> String {
    let (day, rest) =
        if unix_s < NOON_S { ("Sat, 21", unix_s - NOON_S + 86_400) } else { ("Sun, 22", unix_s - NOON_S) };
    format!("{day} Nov 2026 {:02}:{:02}:{:02} GMT", rest / 3600, rest / 60 % 60, rest % 60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn what_is_served_is_what_the_model_serves(response in response(), guesses: bool, resident in 0i64..1_000) {
        let policy = Policy { heuristic: guesses, ..Policy::default() };
        let headers = response.headers();
        let came_ms = u64::try_from(NOON_S * 1000).unwrap();
        let kept = storing(&Exchange {
            method: &Method::GET,
            request: &HeaderMap::new(),
            status: StatusCode::OK,
            response: &headers,
            path: "/",
            request_unix_ms: came_ms - u64::from(response.delay) * 1000,
            response_unix_ms: came_ms,
            policy: &policy,
            object_bytes_max: 1,
        });
        let Storing::Keep { freshness, shaped, .. } = kept else { return Err(TestCaseError::fail("not kept")) };
        prop_assert_eq!(shaped, None);

        let lifetime = response.freshness_lifetime(guesses).unwrap_or(0);
        let age = response.current_age(resident);
        let now_ms = came_ms + u64::try_from(resident).unwrap() * 1000;
        prop_assert_eq!(i64::from(freshness.age_s(now_ms)), age);
        prop_assert_eq!(freshness.ttl_s(now_ms), lifetime - age);

        let window = i64::from(response.stale_while_revalidate.unwrap_or(0));
        let expected = if response.no_cache {
            "ask"
        } else if lifetime > age {
            "serve"
        } else if !response.must_revalidate && lifetime + window > age {
            "serve and refresh"
        } else {
            "ask"
        };
        let found = match decide(&freshness, Standing::Valid, now_ms) {
            Decision::Serve { .. } => "serve",
            Decision::ServeAndRefresh { .. } => "serve and refresh",
            Decision::Revalidate { .. } => "ask",
            Decision::Refetch { .. } => "fetch",
        };
        prop_assert_eq!(found, expected);
    }
}
