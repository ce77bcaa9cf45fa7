//! What policies may write, and what they are told when they may not.

use super::*;
use crate::mistake::code::Code;

fn mistakes(rule: &str) -> Vec<(Code, String)> {
    let (scheme, mistakes) = compile(rule, Nonces::with_history(1));
    assert!(scheme.is_none(), "{rule}");
    mistakes
        .iter()
        .map(|mistake| {
            assert!(mistake.place.is_some() && mistake.help.is_some(), "{mistake:?}");
            (mistake.code, mistake.says.clone())
        })
        .collect()
}

#[test]
fn an_empty_rule_demands_the_defaults() {
    let (scheme, mistakes) = compile("", Nonces::with_history(1));
    assert_eq!(mistakes.count(), (0, 0));
    let scheme = scheme.unwrap();
    assert_eq!(scheme.name(), "signature.request");
    assert_eq!(scheme.origin().to_string(), "signatures.request, policy.toml:1");
    assert_eq!(
        scheme.accept_signature(true),
        r#"sig1=("@method" "@authority" "@path" "@query" "content-digest" "content-type");created"#
    );
    assert_eq!(
        scheme.accept_signature(false),
        r#"sig1=("@method" "@authority" "@path" "@query");created"#
    );
}

#[test]
fn a_full_rule_demands_what_it_says() {
    let scheme = scheme(
        "algorithm = \"hmac-sha256\"
         components = [\"@method\", \"@target-uri\", '@query-param;name=\"page\"', \"content-type\"]
         body_components = [\"content-digest\", \"content-type\"]
         max_age = \"5m\"
         skew = \"0s\"
         nonce = \"optional\"
         expires = \"required\"
         tag = \"a \\\"b\\\" c\"
         label = \"gate\"",
    );
    assert_eq!(
        scheme.accept_signature(true),
        r#"gate=("@method" "@target-uri" "@query-param";name="page" "content-type" "content-digest");created;expires;alg="hmac-sha256";tag="a \"b\" c""#
    );
    assert_eq!(
        scheme.accept_signature(false),
        r#"gate=("@method" "@target-uri" "@query-param";name="page" "content-type");created;expires;alg="hmac-sha256";tag="a \"b\" c""#
    );
    assert_eq!((scheme.max_age_s, scheme.skew_s, scheme.nonce_required), (300, 0, false));
}

#[test]
fn what_is_demanded_can_be_signed() {
    let scheme = scheme("");
    let accept = scheme.accept_signature(true);
    let inputs = accept.to_str().unwrap().replace(";created", ";created=1");
    let inputs = crate::authenticate::signature::reader::inputs(&inputs, &[]).unwrap();
    assert_eq!(inputs.first().unwrap().fault, None);
    assert_eq!(inputs.first().unwrap().coverage.len(), 6);
}

#[test]
fn all_mistakes_of_a_rule_are_told_at_once() {
    let told = mistakes(
        "components = [\"@metod\", \"Content-Type\", \"@query-param\", \"x;tr;tr\", \"a\", \"a\"]
         max_age = \"2h\"
         skew = \"6m\"
         tag = \"\"
         label = \"Sig\"",
    );
    assert_eq!(told.len(), 9, "{told:?}");
    assert!(told.iter().all(|(code, _)| *code == Code::WrongValue));
}

#[test]
fn a_rule_cannot_demand_nothing() {
    assert_eq!(mistakes("components = []").len(), 1);
    assert_eq!(mistakes("max_age = \"0s\"").len(), 1);
    assert_eq!(mistakes("max_age = \"1500ms\"").len(), 1);
    let (scheme, told) = compile("algorithm = \"hmac-sha1\"", Nonces::with_history(1));
    assert!(scheme.is_none());
    let help = told.iter().next().unwrap().help.as_deref();
    assert!(help.is_some_and(|help| help.contains("`ed25519`")), "{told:?}");
    let (scheme, mistakes) = compile("body_components = []", Nonces::with_history(1));
    assert!(scheme.is_some());
    assert_eq!(mistakes.iter().next().unwrap().code, Code::WeakerThanDefault);
}

#[test]
fn a_misspelt_component_gets_the_right_word() {
    let (_, mistakes) = compile("components = [\"@metod\"]", Nonces::with_history(1));
    let shown = mistakes.iter().next().unwrap().render(false);
    assert!(shown.contains("did you mean `@method`?"), "{shown}");
    assert!(shown.contains("policy.toml:2:15"), "{shown}");
}
