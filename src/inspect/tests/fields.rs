//! What the filters are shown, and what rules may say.

use super::*;

#[test]
fn every_field_of_a_head_is_shown_decoded_and_by_its_name() {
    let evil = Evil::new(&EVERYWHERE, false);
    let filters = compile("", Some(evil.clone())).unwrap();
    let mut head = head(
        Method::GET,
        Length::None,
        &[
            ("user-agent", "curl"),
            ("authorization", "Bearer secret"),
            ("x-api-key", "secret"),
            ("signature-input", "sig=()"),
            ("content-type", "a/b"),
            ("accept", "*/*"),
            ("accept-language", "de"),
            ("host", "x"),
            ("cookie", "a=1; b=two=2"),
            ("referer", "https://a/b"),
        ],
    );
    head.query = Some("status=a+b%2541&dueDate[lt]=x".into());
    let parameters = Parameters(vec![("taskId".into(), "a%20b".into())]);
    filters.look_at_head(&head, &parameters, &mut Observed::default()).unwrap();
    let mut shown = evil.shown.lock().unwrap().clone();
    shown.sort();
    let shown: Vec<_> = shown.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    assert_eq!(
        shown,
        [
            ("header.accept", "*/*"),
            ("header.accept-language", "de"),
            ("header.content-type", "a/b"),
            ("header.cookie.a", "1"),
            ("header.cookie.a", "a"),
            ("header.cookie.b", "b"),
            ("header.cookie.b", "two=2"),
            ("header.host", "x"),
            ("header.referer", "https://a/b"),
            ("header.user-agent", "curl"),
            ("path", "tasks"),
            ("path", "v1"),
            ("path.taskId", "a b"),
            ("query.dueDate[lt]", "dueDate[lt]"),
            ("query.dueDate[lt]", "x"),
            ("query.status", "a b%41"),
            ("query.status", "status"),
        ]
    );
}

#[tokio::test]
async fn every_kind_of_body_is_taken_apart() {
    let multipart = "multipart/form-data; boundary=XX";
    let form = "application/x-www-form-urlencoded";
    let field =
        "--XX\r\nContent-Disposition: form-data; name=\"a\"; filename=\"evil\"\r\n\r\nx\r\n--XX--";
    for (content_type, body) in [
        (JSON, "{\"a\":[\"e\\u0076il\"]}"),
        (JSON, "{\"evil\":1}"),
        ("text/json", "[\"e\\u0076il\"]"),
        ("application/merge-patch+json", "\"evil\""),
        (form, "a=1&b=ev%69l"),
        (form, "evil=1"),
        ("text/plain", "all evil"),
        ("application/xml", "<evil/>"),
        (multipart, field),
        (multipart, &field.replace("; filename=\"evil\"", "").replace('x', "evil")),
        (multipart, &field.replace("evil", "").replace("\r\nx\r", "\r\nevil\r")),
        (multipart, &field.replace("evil", "b").replace("\"a\"", "\"evil\"")),
    ] {
        let filters = compile("", Some(Evil::new(&[PlaceKind::Body], false))).unwrap();
        assert!(filters.reads_body());
        let head = || post(Length::Unknown, content_type);
        let refused = outcome(&filters, head(), sent(body.as_bytes())).await;
        assert_eq!(refused, Err(Reason::Sql), "{content_type} {body}");
        let harmless = body.replace("\\u0076", "v").replace("%69", "i").replace("evil", "good");
        let passed = outcome(&filters, head(), sent(harmless.as_bytes())).await;
        assert_eq!(passed, Ok(harmless.clone().into_bytes()), "{content_type} {harmless}");
    }
}

#[tokio::test]
async fn what_the_filters_cannot_read_does_not_pass_them_by() {
    let evil = || Some(Evil::new(&[PlaceKind::Body], false) as Arc<dyn Examine>);
    let open = compile("", evil()).unwrap();
    for (content_type, body, expected) in [
        ("image/png", "evil", Reason::ContentTypeRefused),
        ("application/json", "{", Reason::JsonMalformed),
        ("application/x-www-form-urlencoded", "a=%zz", Reason::BodyMalformed),
        ("multipart/form-data", "x", Reason::BodyMalformed),
        ("multipart/form-data; boundary=a", "x", Reason::BodyMalformed),
        ("text/plain; charset=latin1", "x", Reason::ContentTypeRefused),
    ] {
        let refused = outcome(&open, post(Length::Unknown, content_type), sent(body.as_bytes()));
        assert_eq!(refused.await, Err(expected), "{content_type}");
    }
    let latin = outcome(&open, post(Length::Unknown, "text/plain"), sent(b"\xff")).await;
    assert_eq!(latin, Err(Reason::BodyMalformed));
    let untyped = head(Method::POST, Length::Unknown, &[]);
    assert_eq!(outcome(&open, untyped, sent(b"x")).await, Err(Reason::ContentTypeRefused));
    // What a rule names passes unread: that is said aloud.
    let named = compile("body.types = [\"image/*\"]", evil()).unwrap();
    let image = post(Length::Unknown, "image/png");
    assert_eq!(outcome(&named, image, sent(b"evil")).await, Ok(b"evil".to_vec()));
}

#[tokio::test]
async fn observations_are_kept_up_to_a_number_and_counted_beyond() {
    let filters = compile("", Some(Evil::new(&[PlaceKind::Body], true))).unwrap();
    let room = Room::new(Size(10_000));
    let mut watch = Observed::default();
    let body = format!("[{}\"evil\"]", "\"evil\",".repeat(19));
    let head = post(Length::Unknown, JSON);
    filters.take_body(&head, sent(body.as_bytes()), false, room.hold(), &mut watch).await.unwrap();
    assert_eq!((watch.seen().len(), watch.more()), (16, 4));
    assert_eq!(watch.seen()[0].origin.rule(), "filters.json-api");
}

#[test]
fn all_that_cannot_hold_together_is_told() {
    for (text, expected) in [
        ("body = \"nothing\"", 1),
        ("body = 5", 1),
        ("body.max = \"0B\"", 1),
        ("body.types = []", 1),
        ("body.types = [\"json\", \"a/b; c=d\", \"*/*\", \"\"]", 4),
        ("body.extra_fields = \"refuse\"", 1),
        ("body.encodings = [\"gzip\"]", 1),
        ("body = { encodings = [\"g zip\"], stream = true }", 1),
        ("body = { stream = true, schema = \"x\", json = {}, digest = \"required\" }", 3),
        ("body = { schema = \"x\", types = [\"application/json\", \"text/plain\"] }", 1),
        ("body.json = { depth = 0, members = 0, elements = 2000000 }", 3),
        ("body.json = { deep = 3 }", 1),
    ] {
        let mistakes = compile(text, None).unwrap_err();
        assert_eq!(mistakes.len(), expected, "{text}: {mistakes:?}");
    }
    let body = Evil::new(&[PlaceKind::Body], false);
    assert!(compile("body.stream = true", Some(body)).is_err());
    let path = Evil::new(&[PlaceKind::Path], false);
    assert!(compile("body.stream = true", Some(path)).is_ok());
}

#[test]
fn a_route_replaces_defaults_and_takes_what_it_leaves_out() {
    let parts = |max: &str| {
        let filters = filters(&format!("body.max = \"{max}\""));
        Parts { body: Some(filters.body), ..Parts::default() }
    };
    let max = |parts: Parts| parts.body.map(|body| body.bytes_max());
    assert_eq!(max(parts("1KiB").or(&parts("2KiB"))), Some(1024));
    assert_eq!(max(Parts::default().or(&parts("2KiB"))), Some(2048));
}
