//! What ends when a token does: everything that is still open by it, and nothing else.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::json;

use super::{Bed, bearer, claims, introspection, merged};
use crate::harness::Service;
use crate::http2::connect as connect_http2;
use crate::revocation::{AT_ONCE, UPGRADE, asked, begun, endless_service, told_cut, until_cut};

/// Routes of the endless service, for either kind of token.
const ROUTES: &str = r#"
[routes.socket]
summary  = "A WebSocket for those who have a token"
match    = "GET /v1/socket"
upstream = "service"
auth     = { any = ["jwt.main", "introspection.main"] }
allow    = [{ scopes = ["things:read"] }]

[routes.long]
summary  = "What goes on for long"
match    = "GET /v1/things/{what}"
upstream = "service"
auth     = { any = ["jwt.main", "introspection.main"] }
allow    = [{ scopes = ["things:read"] }]
"#;

fn bed() -> Bed {
    Bed::in_front(endless_service(), introspection::endpoint(), ROUTES)
}

/// The ways in which a token can end, and what the record then says.
const ENDS: [(&str, &str); 4] = [
    ("\"jti\":\"token-1\"", "token-revoked"),
    ("\"sid\":\"session-1\"", "token-revoked"),
    ("\"subject\":\"alice\"", "token-revoked"),
    ("", "token-expired"),
];

/// Revokes what is named; where nothing is, lets the token's time and the skew go by.
fn end(bed: &Bed, what: &str) {
    if what.is_empty() {
        bed.gate.hand.advance(Duration::from_secs(330));
        return;
    }
    let revoked = bed.gate.ask_admin("POST", "/v1/sessions", &format!("{{{what}}}"));
    assert_eq!(revoked.status, 200, "{revoked:?}");
}

/// A token of somebody else, who is not concerned; it holds an hour longer.
fn others(bed: &Bed) -> String {
    let later = super::NOW_S + 4000;
    bed.with_claims(json!({"jti": "x", "sid": "y", "sub": "bob", "exp": later}))
}

#[test]
fn a_web_socket_ends_with_its_token_and_nobody_elses_does() {
    for (what, reason) in ENDS {
        let bed = bed();
        let open = |token: &str| begun(&bed.gate, &asked("/v1/socket", token, UPGRADE), 101).0;
        // Signed, and called active by its issuer; both say the same of themselves.
        let mut ending = [open(&bed.token()), open("active-1")];
        let mut kept = open(&others(&bed));
        for stream in ending.iter_mut().chain([&mut kept]) {
            stream.write_all(b"frame").unwrap();
            stream.read_exact(&mut [0; 5]).unwrap();
        }
        end(&bed, what);
        let ended = ending.map(|mut stream| thread::spawn(move || until_cut(&mut stream)));
        for ended in ended {
            assert!(ended.join().unwrap() < AT_ONCE, "{what}");
        }
        told_cut(&bed.gate, reason, "/v1/socket");
        thread::sleep(AT_ONCE);
        kept.write_all(b"still").unwrap();
        kept.read_exact(&mut [0; 5]).unwrap();
    }
}

#[test]
fn streams_of_events_and_downloads_end_with_their_token() {
    for (what, reason) in ENDS {
        let bed = bed();
        let paths = ["/v1/things/events", "/v1/things/download"];
        let open = |path| begun(&bed.gate, &asked(path, &bed.token(), ""), 200).0;
        let streams = paths.map(open);
        end(&bed, what);
        // Both at once, so that each has its second.
        let ended = streams.map(|mut stream| thread::spawn(move || until_cut(&mut stream)));
        for ended in ended {
            assert!(ended.join().unwrap() < AT_ONCE, "{what}");
        }
        for path in paths {
            told_cut(&bed.gate, reason, path);
        }
    }
}

#[test]
fn a_stream_of_http_2_ends_with_its_token_alone() {
    for (what, reason) in ENDS {
        let bed = bed();
        let (token, other) = (bed.token(), others(&bed));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut sender = connect_http2(bed.gate.tls(), &bed.gate.ca()).await;
            let ask = |path: &str, token: &str| {
                http::Request::get(format!("https://localhost{path}"))
                    .header("authorization", format!("Bearer {token}"))
                    .body(Full::new(Bytes::new()))
                    .unwrap()
            };
            let events = sender.send_request(ask("/v1/things/events", &token)).await.unwrap();
            assert_eq!(events.status(), 200);
            let mut events = events.into_body();
            assert!(events.frame().await.unwrap().unwrap().is_data());
            end(&bed, what);
            let next = tokio::time::timeout(AT_ONCE, events.frame()).await;
            assert!(next.expect("it goes on").is_none_or(|frame| frame.is_err()), "more came");
            let reply = sender.send_request(ask("/v1/things/one", &other)).await.unwrap();
            assert_eq!(reply.status(), 200, "the connection serves others as before");
        });
        told_cut(&bed.gate, reason, "/v1/things/events");
    }
}

#[test]
fn what_an_issuer_calls_inactive_later_ends_what_it_called_active_before() {
    let is_active = Arc::new(AtomicBool::new(true));
    let says = Arc::clone(&is_active);
    let asked_of = Service::answering(move |_| {
        let active = says.load(Ordering::SeqCst);
        // Without an end of its own: how long it holds is for the next answer to say.
        let body =
            merged(claims(), json!({"active": active, "exp": null, "iat": null})).to_string();
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    });
    let bed = Bed::in_front(endless_service(), asked_of, ROUTES);
    let (mut socket, _) = begun(&bed.gate, &asked("/v1/socket", "opaque-1", UPGRADE), 101);
    // Long after its issuer was asked it goes on, and a request that asks again changes nothing.
    bed.gate.hand.advance(Duration::from_secs(600));
    thread::sleep(AT_ONCE);
    assert_eq!(bed.get("/v1/opaque", &[bearer("opaque-1")]).status, 200);
    socket.write_all(b"frame").unwrap();
    socket.read_exact(&mut [0; 5]).unwrap();

    is_active.store(false, Ordering::SeqCst);
    bed.gate.hand.advance(Duration::from_secs(60));
    assert_eq!(bed.get("/v1/opaque", &[bearer("opaque-1")]).status, 401);
    assert!(until_cut(&mut socket) < AT_ONCE);
    told_cut(&bed.gate, "token-inactive", "/v1/socket");
}
