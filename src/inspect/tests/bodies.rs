//! Sizes, types, digests and rooms of bodies.

use super::*;

#[tokio::test]
async fn a_route_without_a_rule_streams_up_to_a_mebibyte() {
    let filters = filters("");
    assert!(!filters.reads_body());
    assert_eq!(filters.body_max(), 1 << 20);
    let most = vec![b'x'; 1 << 20];
    let unknown = || head(Method::POST, Length::Unknown, &[]);
    assert_eq!(outcome(&filters, unknown(), sent(&most)).await, Ok(most.clone()));
    let more = [Chunk::Data(most), Chunk::Data(b"x".to_vec()), Chunk::End];
    assert_eq!(outcome(&filters, unknown(), streaming(more)).await, Err(Reason::BodyTooLarge));
    for method in [Method::GET, Method::HEAD] {
        let head = head(method, Length::Exactly(1), &[]);
        assert_eq!(outcome(&filters, head, sent(b"x")).await, Err(Reason::BodyUnexpected));
    }
    let coded = head(Method::POST, Length::Unknown, &[("content-encoding", "gzip")]);
    assert_eq!(outcome(&filters, coded, sent(b"x")).await, Err(Reason::ContentEncodingRefused));
}

#[tokio::test]
async fn what_the_head_gives_away_is_refused_before_a_byte_is_read() {
    for (rule, head, expected) in [
        ("body.max = \"10B\"", post(Length::Exactly(11), JSON), Reason::BodyTooLarge),
        ("body = \"none\"", post(Length::Exactly(1), JSON), Reason::BodyUnexpected),
        ("body = \"none\"", post(Length::Unknown, JSON), Reason::BodyUnexpected),
        (
            "body.types = [\"application/json\"]",
            post(Length::Unknown, "text/plain"),
            Reason::ContentTypeRefused,
        ),
        (
            "body.types = [\"application/json\"]",
            head(Method::POST, Length::Unknown, &[]),
            Reason::ContentTypeRefused,
        ),
        ("body.json = {}", post(Length::Unknown, "text/plain"), Reason::ContentTypeRefused),
        (
            "body.json = {}",
            post(Length::Unknown, "application/json; charset=utf-16"),
            Reason::ContentTypeRefused,
        ),
        (
            "query.allow = []\nbody.json = {}",
            {
                let mut head = post(Length::Unknown, JSON);
                head.query = Some("a=1".into());
                head
            },
            Reason::QueryRefused,
        ),
        ("headers.require = [\"x-a\"]", post(Length::Unknown, JSON), Reason::HeaderRefused),
    ] {
        let body = Body::Streaming(Box::pin(Untouched));
        assert_eq!(outcome(&filters(rule), head, body).await, Err(expected), "{rule}");
    }
}

#[tokio::test]
async fn sizes_hold_at_their_edges_however_they_are_told() {
    let filters = filters("body = { max = \"10B\", types = [\"application/json\"] }");
    assert!(filters.reads_body());
    let (fits, exceeds) = (b"\"12345678\"", b"\"123456789\"");
    for length in [Length::Exactly(10), Length::Unknown] {
        assert_eq!(outcome(&filters, post(length, JSON), sent(fits)).await, Ok(fits.to_vec()));
    }
    let refused = Err(Reason::BodyTooLarge);
    assert_eq!(outcome(&filters, post(Length::Unknown, JSON), sent(exceeds)).await, refused);
    let one = exceeds.iter().map(|byte| Chunk::Data(vec![*byte]));
    assert_eq!(outcome(&filters, post(Length::Unknown, JSON), streaming(one)).await, refused);
    let short = Err(Reason::BodyIncomplete);
    assert_eq!(outcome(&filters, post(Length::Exactly(9), JSON), sent(fits)).await, short);
}

#[tokio::test]
async fn a_body_may_be_demanded() {
    let filters = filters("body.required = true");
    let missing = Err(Reason::BodyRequired);
    assert_eq!(outcome(&filters, post(Length::None, JSON), Body::Empty).await, missing);
    let strict = self::filters("body.schema = \"x.json\"");
    assert_eq!(outcome(&strict, post(Length::None, JSON), Body::Empty).await, missing);
    let nothing = [Chunk::Data(Vec::new()), Chunk::End];
    assert_eq!(outcome(&strict, post(Length::Unknown, JSON), streaming(nothing)).await, missing);
    let free = self::filters("body = { schema = \"x.json\", required = false }");
    assert_eq!(outcome(&free, post(Length::None, JSON), Body::Empty).await, Ok(Vec::new()));
}

#[tokio::test]
async fn json_is_checked_wherever_it_is_named() {
    let filters =
        filters("body.types = [\"application/*+json\", \"application/json\", \"text/csv\"]");
    for content_type in [JSON, "application/merge-patch+json", "Application/JSON"] {
        let twice = sent(b"{\"a\":1,\"a\":2}");
        let refused = outcome(&filters, post(Length::Unknown, content_type), twice).await;
        assert_eq!(refused, Err(Reason::JsonDuplicate), "{content_type}");
    }
    let csv = post(Length::Unknown, "text/csv");
    assert_eq!(outcome(&filters, csv, sent(b"{")).await, Ok(b"{".to_vec()));
    let wide = self::filters("body.types = [\"application/*\"]");
    let refused = outcome(&wide, post(Length::Unknown, JSON), sent(b"{")).await;
    assert_eq!(refused, Err(Reason::JsonMalformed));
    let other = post(Length::Unknown, "application/+json");
    assert_eq!(outcome(&filters, other, sent(b"{}")).await, Err(Reason::ContentTypeRefused));
}

#[tokio::test]
async fn a_schema_refuses_by_the_name_of_the_rule() {
    let filters = filters("body = { schema = \"x.json\", extra_fields = \"refuse\" }");
    let room = Room::new(Size(1000));
    let mut watch = Observed::default();
    let head = post(Length::Unknown, JSON);
    let body = sent(b"{\"title\":\"x\",\"is_admin\":true}");
    let refusal = filters.take_body(&head, body, false, room.hold(), &mut watch).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::FieldUnknown);
    assert_eq!(refusal.rule.unwrap().rule(), "routes.a.body");
    assert!(matches!(refusal.extra, Extra::Fields(fields) if &*fields[0].0 == "is_admin"));
}

#[tokio::test]
async fn digests_are_compared_where_the_body_is_read() {
    const RIGHT: &str = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
    let body = || sent(b"{\"hello\": \"world\"}");
    let with = |digest: &str| {
        head(Method::POST, Length::Unknown, &[("content-type", JSON), ("content-digest", digest)])
    };
    let wrong = RIGHT.replace("X48", "Y48");
    let filters = filters("body = { json = {}, digest = \"required\" }");
    assert!(outcome(&filters, with(RIGHT), body()).await.is_ok());
    for (head, expected) in [
        (with(&wrong), Reason::DigestMismatch),
        (with("md5=:AAAA:"), Reason::DigestUnsupported),
        (post(Length::Unknown, JSON), Reason::DigestMissing),
    ] {
        assert_eq!(outcome(&filters, head, body()).await, Err(expected));
    }
    // A signature that covered the digest makes any route read and compare.
    let streams = self::filters("body.stream = true");
    let room = Room::new(Size(1000));
    for (head, expected) in [
        (with(RIGHT), None),
        (with(&wrong), Some(Reason::DigestMismatch)),
        (post(Length::Unknown, JSON), Some(Reason::DigestMissing)),
    ] {
        let mut watch = Observed::default();
        let taken = streams.take_body(&head, body(), true, room.hold(), &mut watch).await;
        assert_eq!(taken.err().map(|refusal| refusal.reason), expected);
    }
    let mut watch = Observed::default();
    let mut none = with(RIGHT);
    none.length = Length::None;
    let taken = streams.take_body(&none, Body::Empty, true, room.hold(), &mut watch).await;
    assert_eq!(taken.unwrap_err().reason, Reason::DigestMismatch);
}

#[tokio::test]
async fn what_breaks_off_is_refused_for_what_broke_it() {
    let filters = filters("body.json = {}");
    for (broken, expected) in [
        (Broken::Caller(Reason::BodyTimeout), Reason::BodyTimeout),
        (Broken::Caller(Reason::ChunkMalformed), Reason::ChunkMalformed),
        (Broken::Connection, Reason::ClientLeft),
    ] {
        let body = streaming([Chunk::Data(b"{".to_vec()), Chunk::Breaks(broken)]);
        assert_eq!(outcome(&filters, post(Length::Unknown, JSON), body).await, Err(expected));
    }
}

#[tokio::test]
async fn trailers_pass_neither_way() {
    let chunks = || [Chunk::Data(b"{}".to_vec()), Chunk::Trailers, Chunk::End];
    for rule in ["body.json = {}", "body.stream = true"] {
        let room = Room::new(Size(1000));
        let mut watch = Observed::default();
        let (head, body) = (post(Length::Unknown, JSON), streaming(chunks()));
        let (body, _held) =
            filters(rule).take_body(&head, body, false, room.hold(), &mut watch).await.unwrap();
        let gathered = body.collect().await.unwrap();
        assert!(gathered.trailers().is_none());
        assert_eq!(gathered.to_bytes(), "{}");
    }
}

#[test]
fn the_room_is_taken_by_bytes_that_came_and_not_by_bytes_that_were_promised() {
    let filters = filters("body = { json = {}, max = \"1MiB\" }");
    let room = Room::new(Size(1 << 20));
    let head = post(Length::Exactly(1 << 20), JSON);
    let mut watch = Observed::default();
    let body = streaming([Chunk::Data(vec![b' '; 10]), Chunk::Data(vec![b' '; 10])]);
    let mut taking = Box::pin(filters.take_body(&head, body, false, room.hold(), &mut watch));
    let mut context = Context::from_waker(Waker::noop());
    assert!(taking.as_mut().poll(&mut context).is_pending());
    assert!((20..=4096).contains(&room.bytes_held()), "{}", room.bytes_held());
    drop(taking);
    assert_eq!(room.bytes_held(), 0);
}

#[tokio::test]
async fn a_body_holds_its_room_until_it_is_sent_and_a_full_room_is_our_fault() {
    let filters = filters("body.json = {}");
    let room = Room::new(Size(100));
    let text = format!("\"{}\"", "x".repeat(58));
    let head = || post(Length::Unknown, JSON);
    let mut watch = Observed::default();
    let (body, held) = filters
        .take_body(&head(), sent(text.as_bytes()), false, room.hold(), &mut watch)
        .await
        .unwrap();
    assert_eq!(room.bytes_held(), 60);
    let refusal = filters
        .take_body(&head(), sent(text.as_bytes()), false, room.hold(), &mut watch)
        .await
        .unwrap_err();
    assert_eq!((refusal.reason, room.refused()), (Reason::BufferFull, 1));
    assert_eq!(room.bytes_held(), 60);
    drop((body, held));
    assert_eq!(room.bytes_held(), 0);
}

#[test]
fn an_inspection_can_move_between_threads() {
    fn moves<T: Send>(_: &T) {}
    let room = Room::new(Size(1));
    let mut watch = Observed::default();
    let filters = filters("");
    let head = post(Length::Unknown, JSON);
    moves(&filters.take_body(&head, sent(b"x"), false, room.hold(), &mut watch));
}
