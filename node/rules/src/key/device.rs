//! Which class of device a client says it is: for layouts, not for rights.

use http::{HeaderMap, header::USER_AGENT};

/// How much of a `User-Agent` is looked at, in bytes.
const AGENT_BYTES_MAX: usize = 512;

/// A class of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// A telephone.
    Mobile,
    /// A tablet.
    Tablet,
    /// Anything else that a person looks at.
    Desktop,
    /// A program that reads for nobody in particular.
    Bot,
}

/// What tells a class, in lower case, in the order of asking: a telephone's browser names many things that it is not.
const TELLING: [(&str, Device); 22] = [
    ("bot", Device::Bot),
    ("crawl", Device::Bot),
    ("spider", Device::Bot),
    ("slurp", Device::Bot),
    ("facebookexternalhit", Device::Bot),
    ("bingpreview", Device::Bot),
    ("mediapartners", Device::Bot),
    ("headlesschrome", Device::Bot),
    ("lighthouse", Device::Bot),
    ("ipad", Device::Tablet),
    ("tablet", Device::Tablet),
    ("kindle", Device::Tablet),
    ("silk/", Device::Tablet),
    ("playbook", Device::Tablet),
    ("iphone", Device::Mobile),
    ("ipod", Device::Mobile),
    ("windows phone", Device::Mobile),
    ("opera mini", Device::Mobile),
    ("blackberry", Device::Mobile),
    ("mobi", Device::Mobile),
    // without `mobile` beside it
    ("android", Device::Tablet),
    ("smarttv", Device::Desktop),
];

impl Device {
    /// As the origin is told.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mobile => "mobile",
            Self::Tablet => "tablet",
            Self::Desktop => "desktop",
            Self::Bot => "bot",
        }
    }

    /// By `User-Agent`, and where that tells nothing by `Sec-CH-UA-Mobile`.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let agent = headers.get(USER_AGENT).map(http::HeaderValue::as_bytes).unwrap_or_default();
        let agent = agent.get(..AGENT_BYTES_MAX).unwrap_or(agent).to_ascii_lowercase();
        let says = |word: &str| agent.windows(word.len()).any(|part| part == word.as_bytes());
        let told = TELLING.iter().find(|(word, _)| says(word)).map(|(_, device)| *device);
        let hint = headers.get("sec-ch-ua-mobile").map(http::HeaderValue::as_bytes);
        told.unwrap_or(if hint == Some(b"?1") { Self::Mobile } else { Self::Desktop })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn check(agent: &str, expected: Device) {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, agent.parse().unwrap());
        assert_eq!(Device::of(&headers), expected, "{agent}");
    }

    #[test]
    fn common_clients_are_told_apart() {
        check(
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36",
            Device::Desktop,
        );
        check("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Mobile/15E148 Safari/604.1", Device::Mobile);
        check("Mozilla/5.0 (iPad; CPU OS 18_0 like Mac OS X) Mobile/15E148 Safari/604.1", Device::Tablet);
        check(
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 Chrome/140.0 Mobile Safari/537.36",
            Device::Mobile,
        );
        check("Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 Chrome/140.0 Safari/537.36", Device::Tablet);
        check("Mozilla/5.0 (Linux; Android 6.0.1) Mobile (compatible; Googlebot/2.1)", Device::Bot);
        check("curl/8.5.0", Device::Desktop);
    }

    #[test]
    fn a_hint_counts_where_the_agent_tells_nothing() {
        let mut headers = HeaderMap::new();
        assert_eq!(Device::of(&headers), Device::Desktop);
        headers.insert("sec-ch-ua-mobile", "?1".parse().unwrap());
        assert_eq!(Device::of(&headers), Device::Mobile);
        headers.insert(USER_AGENT, "Mozilla/5.0 (iPad)".parse().unwrap());
        assert_eq!(Device::of(&headers), Device::Tablet);
    }
}
