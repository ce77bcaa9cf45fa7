//! Answers of all kinds, compared: in pieces and whole, by us and by another reader.

use http_body_util::BodyExt;
use proptest::prelude::*;

use super::*;

/// What hyper's client takes the same bytes for, as far as it can be compared.
async fn taken_by_hyper(answer: Vec<u8>) -> Option<(u16, Vec<u8>)> {
    let (near, mut far) = duplex(1 << 16);
    let target = async move {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(far.read_u8().await.unwrap());
        }
        let _ = far.write_all(&answer).await;
    };
    let caller = async move {
        let io = hyper_util::rt::TokioIo::new(near);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.ok()?;
        let driver = tokio::spawn(connection);
        let request = http::Request::new(http_body_util::Empty::<Bytes>::new());
        let response = sender.send_request(request).await.ok()?;
        let status = response.status().as_u16();
        let content = response.into_body().collect().await.ok()?.to_bytes().to_vec();
        driver.abort();
        Some((status, content))
    };
    tokio::join!(caller, target).0
}

fn answers() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        4 => Just("HTTP/1.1 200 OK\r\n"),
        1 => Just("HTTP/1.0 200 OK\r\n"),
        1 => Just("HTTP/1.1 204 None\r\n"),
        1 => Just("HTTP/1.1 304\r\n"),
        1 => Just("HTTP/1.1 103 Early\r\nX: y\r\n\r\nHTTP/1.1 200 \r\n"),
    ];
    let header = prop_oneof![
        Just("Content-Length: 3\r\n"),
        Just("Content-Length: 0\r\n"),
        Just("Transfer-Encoding: chunked\r\n"),
        Just("Connection: close\r\n"),
        Just("Connection: keep-alive\r\n"),
        Just("X-Test:  value \t\r\n"),
        Just(" folded\r\n"),
        Just("X: a\n"),
    ];
    let body = prop_oneof![
        Just("abc"),
        Just("3\r\nabc\r\n0\r\n\r\n"),
        Just("3\r\nabc\r\n0\r\nx: y\r\n\r\n"),
        Just("3;a=b\r\nabc\r\n0 ; c=\"d\"\r\n\r\n"),
        Just("3  \r\nabc\r\n0\r\n\r\n"),
        Just("2\r\nabc\r\n0\r\n\r\n"),
        Just("ab"),
        Just(""),
    ];
    (line, proptest::collection::vec(header, 0..4), body)
        .prop_map(|(line, headers, body)| format!("{line}{}\r\n{body}", headers.concat()))
}

proptest! {
    #[test]
    fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let answer = [b"HTTP/1.1 200 OK\r\n", bytes.as_slice()].concat();
        let _ = whole(bytes);
        let _ = whole(answer);
    }

    #[test]
    fn pieces_are_taken_for_what_the_whole_is(answer in answers(), at in 0usize..120) {
        let (first, second) = answer.as_bytes().split_at(at.min(answer.len()));
        let pieces = vec![first.to_vec(), second.to_vec()];
        let pieces = runtime().block_on(taken(Method::GET, pieces));
        // Bytes that come after the end of an answer are seen at once only when they come with it.
        let comparable = |taken: Taken| Taken { reusable: false, ..taken };
        prop_assert_eq!(pieces.map(comparable), whole(&answer).map(comparable));
    }

    #[test]
    fn whatever_we_take_another_reader_takes_for_the_same(answer in answers()) {
        if let Ok(taken) = whole(&answer) && taken.well {
            let other = runtime().block_on(taken_by_hyper(answer.into_bytes()));
            prop_assert_eq!(other, Some((taken.status, taken.content)));
        }
    }
}
