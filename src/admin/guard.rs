//! Who may use the admin listener: those with its token, from a page of no browser.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue};

use crate::admin::answer::Failure;
use crate::secret::{Secret, equal};

/// Decides who may ask the administration.
pub struct Guard {
    token: Option<Secret>,
}

impl Guard {
    /// A guard that lets in whoever has this token; without one, or with an empty one, nobody.
    pub fn new(token: Option<Secret>) -> Self {
        Self { token: token.filter(|token| !token.expose().is_empty()) }
    }

    /// Refuses what only a browser sends on behalf of a page.
    ///
    /// A page that somebody has open can reach loopback. Its requests betray themselves: those to
    /// another origin by `Origin`, and those after its own name was pointed at 127.0.0.1 (DNS
    /// rebinding) by that name in `Host`.
    ///
    /// # Errors
    /// 403 for any `Origin`, 421 unless exactly one `Host` is an IP address or `localhost`.
    pub fn refuse_pages(
        &self,
        headers: &HeaderMap,
        target: Option<&Authority>,
    ) -> Result<(), Failure> {
        if headers.contains_key(ORIGIN) {
            return Err(Failure::forbidden("Web pages are not served by the administration"));
        }
        let host = single(headers, HOST).and_then(|host| host.to_str().ok());
        let is_ours =
            host.is_some_and(is_ours) && target.is_none_or(|authority| is_ours(authority.as_str()));
        if is_ours { Ok(()) } else { Err(Failure::misdirected()) }
    }

    /// Demands the token as `Authorization: Bearer TOKEN` (RFC 6750, section 2.1).
    ///
    /// # Errors
    /// 401, the same whether the token is missing, malformed, sent twice or wrong.
    pub fn demand_token(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let given = single(headers, AUTHORIZATION).and_then(bearer).unwrap_or_default();
        let right = self.token.as_ref().is_some_and(|token| equal(token.expose(), given));
        if right { Ok(()) } else { Err(Failure::unauthorized()) }
    }
}

/// The value of a header that stands exactly once.
fn single(headers: &HeaderMap, name: http::HeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).into_iter();
    values.next().filter(|_| values.next().is_none())
}

fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii_start())
}

/// Whether a host, with or without a port, is one that no name server can point elsewhere.
fn is_ours(host: &str) -> bool {
    if host.contains('@') {
        return false;
    }
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    const TOKEN: &str = "kX9TqLm2VwYd8RzB1nHs6JcP0aGfE4uK";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn guard() -> Guard {
        Guard::new(Some(Secret::new(TOKEN.as_bytes().to_vec())))
    }

    #[test]
    fn the_token_and_nothing_else_lets_in() {
        let right = format!("Bearer {TOKEN}");
        assert!(guard().demand_token(&headers(&[("authorization", &right)])).is_ok());
        let lower = format!("bearer {TOKEN}");
        assert!(guard().demand_token(&headers(&[("authorization", &lower)])).is_ok());

        let (longer, shorter) = (format!("{right}K"), &right[..right.len() - 1]);
        let basic = format!("Basic {TOKEN}");
        for wrong in [
            &[][..],
            &[("authorization", "")],
            &[("authorization", "Bearer")],
            &[("authorization", "Bearer ")],
            &[("authorization", TOKEN)],
            &[("authorization", &basic)],
            &[("authorization", &longer)],
            &[("authorization", shorter)],
            &[("authorization", &right), ("authorization", &right)],
            &[("x-api-key", TOKEN)],
        ] {
            let refused = guard().demand_token(&headers(wrong)).unwrap_err();
            assert_eq!(refused, Failure::unauthorized(), "{wrong:?}");
        }
    }

    #[test]
    fn without_a_token_of_its_own_a_guard_lets_nobody_in() {
        for guard in [Guard::new(None), Guard::new(Some(Secret::new(Vec::new())))] {
            assert!(guard.demand_token(&headers(&[])).is_err());
            assert!(guard.demand_token(&headers(&[("authorization", "Bearer ")])).is_err());
        }
    }

    #[test]
    fn a_host_that_a_name_server_can_point_here_is_refused() {
        for ours in ["127.0.0.1:9901", "127.0.0.1", "[::1]:9901", "localhost:9901", "LOCALHOST"] {
            assert!(guard().refuse_pages(&headers(&[("host", ours)]), None).is_ok(), "{ours}");
        }
        for wrong in [
            &[][..],
            &[("host", "")],
            &[("host", "evil.example:9901")],
            &[("host", "localhost.evil.example")],
            &[("host", "127.0.0.1.evil.example")],
            &[("host", "evil.example@127.0.0.1")],
            &[("host", "127.0.0.1:9901"), ("host", "evil.example")],
        ] {
            let refused = guard().refuse_pages(&headers(wrong), None).unwrap_err();
            assert_eq!(refused.status(), StatusCode::MISDIRECTED_REQUEST, "{wrong:?}");
        }
        let local = headers(&[("host", "127.0.0.1")]);
        let target = |text: &str| text.parse::<Authority>().unwrap();
        assert!(guard().refuse_pages(&local, Some(&target("127.0.0.1:9901"))).is_ok());
        assert!(guard().refuse_pages(&local, Some(&target("evil.example"))).is_err());
    }

    #[test]
    fn whatever_a_page_sends_is_refused() {
        for origin in ["https://evil.example", "null", "http://127.0.0.1:9901"] {
            let headers = headers(&[("host", "127.0.0.1:9901"), ("origin", origin)]);
            let refused = guard().refuse_pages(&headers, None).unwrap_err();
            assert_eq!(refused.status(), StatusCode::FORBIDDEN);
        }
    }
}
