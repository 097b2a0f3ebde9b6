//! A request for a site whose data may not be on this node. DNS names only legal regions, but not every client goes by it.
//! (Connections over TLS are refused or passed on before there is a request, see [`super::relay`]: this is for clear text, and for
//! clients who use the connection of another site, RFC 9113 section 9.1.1.)
//!
//! Nothing of it is read, stored, counted by site or logged. It is refused, or sent to a name of the site that the operator
//! has said, which DNS gives to legal regions only. Who asks for that name already is refused: nobody is sent on twice.

use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header};
use region_config::Site;

use super::{answer, body::Body};

/// What such a client is told: 307 (RFC 9110 section 15.4.8) or 421 (section 15.5.20).
pub(super) fn answer(site: &Site, https: bool, host: &str, authority: &str, target: &Uri) -> Response<Body> {
    match elsewhere(site, https, host, authority, target) {
        Some(location) => {
            let mut headers = HeaderMap::with_capacity(4);
            headers.insert(header::LOCATION, location);
            empty(StatusCode::TEMPORARY_REDIRECT, headers)
        }
        // without a word: whatever is said of the site, it would be said from here
        None => empty(StatusCode::MISDIRECTED_REQUEST, HeaderMap::with_capacity(2)),
    }
}

fn empty(status: StatusCode, mut headers: HeaderMap) -> Response<Body> {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
    answer::with(status, headers, Body::empty())
}

/// Where it is sent: the same target at the other name, over TLS if it came so or the site has it. A port is kept where the
/// scheme stays, and else it is the one that the site says.
fn elsewhere(site: &Site, https: bool, host: &str, authority: &str, target: &Uri) -> Option<HeaderValue> {
    let to = site.misrouted_to.as_deref().filter(|to| *to != host)?;
    let target = target.path_and_query().map(http::uri::PathAndQuery::as_str).filter(|it| it.starts_with('/'))?;
    let secure = https || site.tls.is_some();
    let scheme = if secure { "https" } else { "http" };
    let port = authority.rsplit_once(':').map(|(_, port)| port).filter(|port| port.parse::<u16>().is_ok());
    let port = match port {
        _ if secure && !https && site.https_port != 443 => format!(":{}", site.https_port),
        Some(port) if secure == https => format!(":{port}"),
        _ => String::new(),
    };
    HeaderValue::try_from(format!("{scheme}://{to}{port}{target}")).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::path::PathBuf;

    use region_config::CertificateFiles;

    use super::*;
    use crate::observe::tests::site;

    fn told(site: &Site, host: &str, authority: &str, target: &str) -> (u16, Option<String>) {
        let answer = answer(site, false, host, authority, &target.parse().unwrap());
        let location = answer.headers().get(header::LOCATION).map(|it| it.to_str().unwrap().to_owned());
        (answer.status().as_u16(), location)
    }

    #[test]
    fn a_client_is_sent_to_the_other_name_once_and_never_twice() {
        let mut care = site("care");
        assert_eq!(told(&care, "care.test", "care.test", "/a"), (421, None));
        care.misrouted_to = Some("eu.care.test".to_owned());
        let to = |location: &str| (307, Some(location.to_owned()));
        assert_eq!(told(&care, "care.test", "care.test", "/a?b=c%20"), to("http://eu.care.test/a?b=c%20"));
        assert_eq!(told(&care, "care.test", "care.test:8080", "/"), to("http://eu.care.test:8080/"));
        assert_eq!(told(&care, "care.test", "care.test", "http://care.test/x"), to("http://eu.care.test/x"));
        assert_eq!(told(&care, "[::1]", "[::1]", "/"), to("http://eu.care.test/"));
        assert_eq!(told(&care, "eu.care.test", "eu.care.test", "/a"), (421, None));
        assert_eq!(told(&care, "care.test", "care.test", "*"), (421, None));
        care.tls = Some(CertificateFiles { certificate: PathBuf::new(), key: PathBuf::new() });
        assert_eq!(told(&care, "care.test", "care.test:8080", "/a"), to("https://eu.care.test/a"));
        care.https_port = 8443;
        assert_eq!(told(&care, "care.test", "care.test:8080", "/a"), to("https://eu.care.test:8443/a"));
    }
}
