//! What holds for every body, however it comes.

use super::*;

fn chunks() -> impl Strategy<Value = Vec<Chunk>> {
    let chunk = prop_oneof![
        6 => proptest::collection::vec(any::<u8>(), 0..3000).prop_map(Chunk::Data),
        6 => proptest::sample::select(vec!["[", "]", "\"evil\"", ",", "1", " "])
            .prop_map(|text| Chunk::Data(text.as_bytes().to_vec())),
        1 => Just(Chunk::Trailers),
        1 => Just(Chunk::Breaks(Broken::Connection)),
        1 => Just(Chunk::Breaks(Broken::Caller(Reason::BodyTimeout))),
        3 => Just(Chunk::End),
    ];
    proptest::collection::vec(chunk, 0..12)
}

proptest! {
    #[test]
    fn however_a_body_is_cut_it_arrives_whole(
        text in "[a-z\u{e9} ]{0,200}",
        cuts in proptest::collection::vec(0_usize..220, 0..12),
    ) {
        let whole = format!("{{\"title\":\"{text}\"}}").into_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(whole.len())).collect();
        cuts.extend([0, whole.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| Chunk::Data(whole[cut[0]..cut[1]].to_vec()));
        let body = streaming(pieces.chain([Chunk::End]));
        let filters = filters("body = { schema = \"x.json\", max = \"10KiB\" }");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let result = runtime.block_on(outcome(&filters, post(Length::Unknown, JSON), body));
        prop_assert_eq!(result, Ok(whole));
    }

    #[test]
    fn whatever_happens_the_room_is_given_back(
        chunks in chunks(),
        room_bytes in 0_u64..20_000,
        rule in proptest::sample::select(vec!["body.json = {}", "body.max = \"5KiB\"", "body.stream = true"]),
        observe: bool,
    ) {
        let places: &[_] = if rule.contains("stream") { &[] } else { &[PlaceKind::Body] };
        let filters = compile(rule, Some(Evil::new(places, observe))).unwrap();
        let room = Room::new(Size(room_bytes));
        let head = post(Length::Unknown, JSON);
        let mut watch = Observed::default();
        let mut taking = Box::pin(filters.take_body(&head, streaming(chunks), false, room.hold(), &mut watch));
        let mut context = Context::from_waker(Waker::noop());
        let polled = taking.as_mut().poll(&mut context);
        prop_assert!(room.bytes_held() <= room_bytes);
        if let Poll::Ready(Ok((Body::Whole(bytes), held))) = &polled {
            prop_assert!(held.bytes() >= bytes.len() as u64);
        }
        drop(polled);
        drop(taking);
        prop_assert_eq!(room.bytes_held(), 0);
    }

    #[test]
    fn a_rule_that_only_watches_never_changes_the_outcome(chunks in chunks(), query in "[a-z=&%+]{0,12}") {
        let run = |examine: Arc<dyn Examine>| {
            let filters = compile("body.types = [\"application/json\"]", Some(examine)).unwrap();
            let mut head = post(Length::Unknown, JSON);
            head.query = Some(query.as_str().into());
            let mut chunks = chunks.clone();
            chunks.push(Chunk::End);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(outcome(&filters, head, streaming(chunks)))
        };
        // One that never objects looks at the same fields.
        prop_assert_eq!(run(Evil::new(&EVERYWHERE, true)), run(Arc::new(Harmless)));
    }
}

/// Objects to nothing.
struct Harmless;

impl Examine for Harmless {
    fn looks_in(&self, _: PlaceKind) -> bool {
        true
    }

    fn examine(&self, _: &Place<'_>, _: &str) -> Option<Objection> {
        None
    }
}
