//! Hosts and what is reached at them: names, patterns, paths, origins.

use std::{fmt, net::IpAddr};

use crate::{
    config::{HostPattern, PathPattern},
    leaf::PATH_BYTES_MAX,
    shape::Text,
    stream::StreamServer,
};

/// Where NATS servers listen unless they are told otherwise.
const NATS_PORT: u16 = 4222;

/// A host name: lower case, no last dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostName(pub(crate) String);

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HostName {
    /// Whether it is a zone's apex or lies below it.
    pub(crate) fn within(name: &str, zone: &str) -> bool {
        name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

impl Text for HostName {
    fn expected() -> String {
        "a host name, such as \"www.example.com\"".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        host_name_fault(&name).map_or(Ok(Self(name)), Err)
    }
}

/// What is wrong with a host name (RFC 1123; `_` is let through, as DNS does).
fn host_name_fault(name: &str) -> Option<String> {
    if name.contains("://") || name.contains('/') {
        return Some("without scheme and path".to_owned());
    }
    if name.contains(':') {
        return Some("without port".to_owned());
    }
    if !name.is_ascii() {
        return Some("write it in its ASCII form (punycode, `xn--...`)".to_owned());
    }
    let label = |label: &str| {
        let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        inner && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    let fits = (1..=253).contains(&name.len()) && name.split('.').all(label);
    if fits { None } else { Some(String::new()) }
}

impl Text for HostPattern {
    fn expected() -> String {
        "a host such as \"www.example.com\", a pattern such as \"*.example.com\", or \"*\" for any".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Some(suffix) = text.strip_prefix("*.") {
            return HostName::parse(suffix).map(|name| Self::Suffix(name.0));
        }
        if text.contains('*') {
            return Err("`*` stands only at the beginning: \"*.example.com\"".to_owned());
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        match bare.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => Ok(Self::Exact(format!("[{address}]"))),
            Ok(IpAddr::V4(address)) => Ok(Self::Exact(address.to_string())),
            Err(_) => HostName::parse(text).map(|name| Self::Exact(name.0)),
        }
    }
}

impl Text for PathPattern {
    fn expected() -> String {
        "a path such as \"/about\", or a path and all below it such as \"/api/*\"".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text == "*" || text == "/*" {
            return Ok(Self::Prefix(String::new()));
        }
        if !text.starts_with('/') {
            return Err("it begins with `/`".to_owned());
        }
        let (path, below) = text.strip_suffix("/*").map_or((text, false), |path| (path, true));
        if path.contains('*') {
            return Err("`*` stands only at the end, after a `/`".to_owned());
        }
        let fits = path.len() <= PATH_BYTES_MAX && path.bytes().all(|b| b.is_ascii_graphic() && b != b'?' && b != b'#');
        match (fits, below) {
            (false, _) => Err("without query; percent-encode what is not printable ASCII".to_owned()),
            (true, true) => Ok(Self::Prefix(path.to_owned())),
            (true, false) => Ok(Self::Exact(path.to_owned())),
        }
    }
}

/// The target of a GET: a path and perhaps a query.
#[derive(Debug, Clone)]
pub(crate) struct Target(pub(crate) String);

impl Text for Target {
    fn expected() -> String {
        "a path such as \"/healthz\"".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let fits = text.starts_with('/') && text.len() <= PATH_BYTES_MAX;
        let plain = text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        if fits && plain { Ok(Self(text.to_owned())) } else { Err(String::new()) }
    }
}

/// Where an origin listens: scheme, host and port.
#[derive(Debug, Clone)]
pub(crate) struct OriginUrl {
    pub(crate) tls: bool,
    /// IPv6 without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Host and port, as in a URL.
impl fmt::Display for OriginUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Text for OriginUrl {
    fn expected() -> String {
        "an origin's address, such as \"http://127.0.0.1:3000\" or \"https://origin.example.com\"".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (tls, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some(_) => return Err("only http and https".to_owned()),
            None => return Err("it begins with `http://` or `https://`".to_owned()),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err("without path: requests keep their own".to_owned());
        }
        if authority.contains('@') {
            return Err("without user and password".to_owned());
        }
        let (host, port) = host_and_port(authority)?;
        let port =
            port.map_or(Ok(if tls { 443 } else { 80 }), |port| port.parse::<u16>().map_err(|_| String::new()))?;
        if port == 0 {
            return Err("a port is from 1 to 65535".to_owned());
        }
        Ok(Self { tls, host, port })
    }
}

impl Text for StreamServer {
    fn expected() -> String {
        "a NATS server, such as \"tls://nats-1.example.net:4222\"".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (tls, rest) = match text.split_once("://") {
            Some(("nats", rest)) => (false, rest),
            Some(("tls", rest)) => (true, rest),
            Some(_) | None => return Err("it begins with `tls://`, or with `nats://` on this machine".to_owned()),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains('@') {
            return Err("without user and password: those are in the file that `credentials` names".to_owned());
        }
        let (host, port) = host_and_port(authority)?;
        let port = port.map_or(Ok(NATS_PORT), |port| port.parse::<u16>().map_err(|_| String::new()))?;
        if port == 0 {
            return Err("a port is from 1 to 65535".to_owned());
        }
        Ok(Self { tls, host, port })
    }
}

/// An authority in two: the host checked, IPv6 without brackets; the port as text.
fn host_and_port(authority: &str) -> Result<(String, Option<&str>), String> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, after) = rest.split_once(']').ok_or_else(String::new)?;
        let address = address.parse::<std::net::Ipv6Addr>().map_err(|_| String::new())?;
        let port = if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or_else(String::new)?) };
        return Ok((address.to_string(), port));
    }
    let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    HostName::parse(host).map(|host| (host.0, port))
}

/// What an origin is sent as `Host`.
#[derive(Debug, Clone)]
pub(crate) struct HostHeader(pub(crate) String);

impl Text for HostHeader {
    fn expected() -> String {
        "a host, perhaps with a port, such as \"origin.example.com\"".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (_, port) = host_and_port(text)?;
        let fits = port.is_none_or(|port| port.parse::<u16>().is_ok());
        if fits { Ok(Self(text.to_ascii_lowercase())) } else { Err(String::new()) }
    }
}

/// The name of a field that no other purpose has, in lower case.
#[derive(Debug, Clone)]
pub(crate) struct OwnFieldName(pub(crate) String);

/// Fields that frame or route a message, or that the node writes itself.
const OWN_FIELDS: [&str; 13] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "keep-alive",
    "via",
    "range",
    "if-none-match",
    "if-modified-since",
];

impl Text for OwnFieldName {
    fn expected() -> String {
        "the name of a field of its own, such as \"x-origin-secret\"".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let name = text.to_ascii_lowercase();
        let token = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = (1..=64).contains(&name.len()) && name.bytes().all(token);
        if fits && !OWN_FIELDS.contains(&name.as_str()) { Ok(Self(name)) } else { Err(String::new()) }
    }
}

/// Who answers for a zone: kept as a domain name, as SOA RNAME wants it (RFC 1035 section 3.3.13).
#[derive(Debug, Clone)]
pub(crate) struct Mailbox(pub(crate) String);

impl Text for Mailbox {
    fn expected() -> String {
        "a mail address such as \"hostmaster@example.com\"".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let name = match text.split_once('@') {
            Some((local, _)) if local.contains('.') => return Err("without a dot before the `@`".to_owned()),
            Some((_, "" | ".")) => return Err("with a domain behind the `@`".to_owned()),
            Some((local, domain)) => format!("{local}.{domain}"),
            None if !text.trim_end_matches('.').contains('.') => return Err("with `@` and a domain".to_owned()),
            None => text.to_owned(),
        };
        HostName::parse(&name).map(|name| Self(name.0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn hosts_are_names_patterns_or_addresses() {
        let parse = |text: &str| HostPattern::parse(text);
        assert_eq!(parse("WWW.Example.com.").unwrap(), HostPattern::Exact("www.example.com".into()));
        assert_eq!(parse("*.example.com").unwrap(), HostPattern::Suffix("example.com".into()));
        assert_eq!(parse("*").unwrap(), HostPattern::Any);
        assert_eq!(parse("::1").unwrap(), HostPattern::Exact("[::1]".into()));
        assert_eq!(parse("[::1]").unwrap(), HostPattern::Exact("[::1]".into()));
        assert_eq!(parse("127.0.0.1").unwrap(), HostPattern::Exact("127.0.0.1".into()));
        for bad in ["", ".", "a..b", "-a.b", "a.*.b", "http://a", "a:80", "a/b", "münchen.de", &"a.".repeat(200)] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    /// `nobody` was taken for a domain name, and stood in SOA as `nobody.`: a mailbox at the root.
    #[test]
    fn mailboxes_have_a_domain() {
        let parse = |text: &str| Mailbox::parse(text).map(|it| it.0);
        for good in ["hostmaster@example.com", "hostmaster.example.com", "HostMaster@Example.com."] {
            assert_eq!(parse(good).as_deref(), Ok("hostmaster.example.com"), "{good}");
        }
        for bad in ["nobody", "nobody.", "nobody@", "nobody@.", "@example.com", "no.body@example.com", ""] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn origins_are_scheme_host_and_port() {
        let parse = |text: &str| OriginUrl::parse(text).map(|url| (url.tls, url.host, url.port));
        assert_eq!(parse("http://127.0.0.1:3000"), Ok((false, "127.0.0.1".into(), 3000)));
        assert_eq!(parse("https://Origin.example.com/"), Ok((true, "origin.example.com".into(), 443)));
        assert_eq!(parse("http://[::1]:81"), Ok((false, "::1".into(), 81)));
        for bad in [
            "",
            "a",
            "ftp://a",
            "http://",
            "http://a/b",
            "http://u@a",
            "http://a:0",
            "http://a:x",
            "http://[::1",
            "http://[::1]x",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_exact_or_end_in_a_star() {
        assert_eq!(PathPattern::parse("/a/*").unwrap(), PathPattern::Prefix("/a".into()));
        assert_eq!(PathPattern::parse("/*").unwrap(), PathPattern::Prefix(String::new()));
        assert_eq!(PathPattern::parse("/a").unwrap(), PathPattern::Exact("/a".into()));
        for bad in ["", "a", "/a*", "/*/a", "/a?b", "/a b", "/ü"] {
            assert!(PathPattern::parse(bad).is_err(), "{bad}");
        }
    }
}
