//! What holds for all requests: no two share a base, nothing random verifies, nothing panics.

use proptest::prelude::*;

use super::*;
use crate::authenticate::signature::base;
use crate::authenticate::signature::component::{Component, Derived};
use crate::authenticate::signature::coverage::{Coverage, Demanded};
use crate::authenticate::signature::input::{Input, Inputs};
use crate::authenticate::signature::parameter::Parameters;
use crate::authenticate::signature::reader::inputs;
use crate::authenticate::signature::{lenient, strict};
use crate::fields::Fields;

/// What the default components tell of a request, before it becomes a base.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    method: String,
    host: String,
    port: Option<u16>,
    path: String,
    query: String,
    fields: Vec<String>,
}

impl Told {
    fn base(&self) -> Option<Vec<u8>> {
        let mut headers = Fields::new();
        for (number, value) in self.fields.iter().enumerate() {
            headers.insert(
                HeaderName::try_from(format!("x-{number}")).unwrap(),
                HeaderValue::from_str(value).ok()?,
            );
        }
        let target = format!("{}?{}", self.path, self.query);
        let message = Message {
            method: &self.method,
            scheme: "https",
            host: &self.host,
            port: self.port,
            target: &target,
            headers: &headers,
            trailers: None,
        };
        let derived = [Derived::Method, Derived::Authority, Derived::Path, Derived::Query];
        let mut components: Vec<Component<'_>> = derived.map(Component::Derived).into();
        for number in 0..self.fields.len() {
            components.push(Component::read(&format!("x-{number}")).unwrap());
        }
        let coverage = Coverage::Listed(components);
        let input = Input {
            label: "s",
            coverage,
            parameters: Parameters::default(),
            strict: None,
            fault: None,
        };
        let mut written = Vec::new();
        base::write(&message, &input, &mut written).ok()?;
        Some(written)
    }
}

fn told() -> impl Strategy<Value = Told> {
    // Few letters, so that near misses are common, and the ones that a base is built of among them.
    (
        "(GET|PUT)",
        "[ab.:]{1,4}",
        prop::option::of(prop::sample::select(vec![1, 80, 8443])),
        "/[a/:\"@ \n]{0,4}",
        "[a=&?:\"\n]{0,4}",
        prop::collection::vec("[a ,\":]{0,4}".prop_map(|text| text.trim().to_owned()), 0..3),
    )
        .prop_map(|(method, host, port, path, query, fields)| Told {
            method,
            host: host.replace(':', ""),
            port,
            path,
            query,
            fields,
        })
}

/// The request of the matrix with other bytes in its two headers.
fn with_fields(input: &[u8], signature: &[u8]) -> Option<Head> {
    let mut head = Draft::default().unsigned();
    head.headers.insert("content-digest", HeaderValue::from_static("sha-256=:YQ==:"));
    head.headers.insert("signature-input", HeaderValue::from_bytes(input).ok()?);
    head.headers.insert("signature", HeaderValue::from_bytes(signature).ok()?);
    Some(head)
}

proptest! {
    #[test]
    fn two_requests_never_share_a_base(left in told(), right in told()) {
        if let (Some(one), Some(other)) = (left.base(), right.base()) {
            prop_assert_eq!(one == other, left == right);
        }
    }

    #[test]
    fn random_bytes_never_panic_and_never_verify(
        input in prop::collection::vec(any::<u8>(), 0..200),
        signature in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        if let Some(head) = with_fields(&input, &signature) {
            let attempt = scheme("").attempt(&head, at(CREATED));
            prop_assert!(matches!(attempt, Attempt::Rejected(_)));
        }
    }

    #[test]
    fn random_terms_never_panic_and_never_verify(
        input in r#"sig1=\(("@method" |"@query-param";name="[a%]{0,3}" |"a";(sf|bs|key="b") ){0,4}"@path"\)(;(created=17672256[0-9]{2}|nonce="[ -~]{8}"|keyid="task-writer-1"|tag|alg="[a-z]"|[a-z]{1,3}=[a-z0-9?:"@%.-]{0,5})){0,5}"#,
        signature in "sig1=:[A-Za-z0-9+/]{43}=:",
        target in "[/*ah:?&=%+#. 0-9]{0,20}",
    ) {
        if let Some(mut head) = with_fields(input.as_bytes(), signature.as_bytes()) {
            head.target = target.into();
            let loose = scheme("components = [\"@path\"]\nbody_components = []\nnonce = \"optional\"");
            let attempt = loose.attempt(&head, at(CREATED));
            prop_assert!(matches!(attempt, Attempt::Rejected(_)));
        }
    }

    #[test]
    fn both_readers_agree(
        members in prop::collection::vec(
            r#"[a-z*][a-z0-9]{0,2}=\((("@method"|"@query-param";name="[a%]{0,3}"|"a[b-]";(sf|bs|tr|x|key="b"))( |  )?){0,3}"@path"\)(;(created=[0-9]{1,3}|expires=(0|[1-9][0-9]{13,15})|nonce="[ -~]{8}"|keyid="[a-z]{1,3}"|tag|alg="[a-z]"|tag="\\?[a-z\\]"|[a-z]{1,3}=[a-z0-9?:"@%.-]{0,5})){0,3}"#,
            1..4),
        between in "(, |,|, ,| , )",
    ) {
        let text = members.join(&between);
        let demanded = [
            Demanded::of([Component::Derived(Derived::Path)].iter()),
            Demanded::of([Derived::Method, Derived::Path].map(Component::Derived).iter()),
        ];
        let mut strict = Inputs::default();
        if strict::inputs(text.as_bytes(), &demanded, &mut strict).is_some() {
            let mut lenient = lenient::inputs(&text).unwrap();
            for (input, strict) in lenient.iter_mut().zip(strict.iter()) {
                let mut written = Vec::new();
                base::parameters(input, &mut written);
                prop_assert_eq!(Some(written.as_slice()), strict.strict.map(str::as_bytes));
                input.strict = strict.strict;
            }
            prop_assert_eq!(lenient, strict);
        }
    }

    #[test]
    fn what_is_signed_by_us_is_read_strictly(
        nonce in prop::option::of("[0-9A-Za-z]{8,20}"),
        created in 0_u64..1_000_000_000_000_000,
    ) {
        let mut headers = Fields::new();
        headers.insert("priority", HeaderValue::from_static("u=1"));
        let message = Message {
            method: "GET",
            scheme: "https",
            host: "example.com",
            port: None,
            target: "/?a=1",
            headers: &headers,
            trailers: None,
        };
        let terms = Terms {
            label: "sig1",
            components: &[
                "@method", "@query-param;name=\"a\"", "priority;sf", "priority;key=\"u\"", "priority",
            ],
            keyid: "k",
            created,
            expires: Some(created),
            nonce: nonce.as_deref(),
            tag: Some("t"),
        };
        let signed = sign(&ToSign { message, body: b"" }, &terms, &secret()).unwrap();
        prop_assert!(strict::inputs(signed.signature_input.as_bytes(), &[], &mut Inputs::default()).is_some());
    }

    #[test]
    fn a_canonical_input_is_written_as_it_was_read(
        name in "[a-z][a-z0-9-]{0,9}",
        nonce in "[ -~]{8,20}",
        created in 0_u64..1_000_000_000_000_000,
    ) {
        let nonce = nonce.replace('\\', r"\\").replace('"', "\\\"");
        let text = format!("(\"{name}\" \"@query-param\";name=\"{name}\");created={created};nonce=\"{nonce}\"");
        let labelled = format!("s={text}");
        let read = inputs(&labelled, &[]).unwrap();
        prop_assert_eq!(read.first().unwrap().fault, None);
        let mut written = Vec::new();
        base::parameters(read.first().unwrap(), &mut written);
        prop_assert_eq!(String::from_utf8(written).unwrap(), text);
    }
}
