//! Compiles `auth` as policy writes it: `{ any = […] }`, `{ all = […] }` or `"none"`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::authenticate::bearer::Carried;
use crate::authenticate::challenge::Challenge;
use crate::authenticate::jwt::{JwtScheme, Verifier};
use crate::authenticate::{Authenticate, Demand, Member, Scheme, api_key, introspection, jwt};
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::mistake::{Reading, suggest};
use crate::name::Name;
use crate::refusal::Reason;

/// Who may call a route, as it is written.
#[derive(Clone, Debug)]
pub enum AuthRule {
    /// A word. Only `"none"` means something: nothing is asked, on purpose.
    Word(String),
    /// The schemes that prove a caller.
    Schemes(SchemesRule),
}

/// The schemes that prove a caller. Exactly one of the two is written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SchemesRule {
    /// One of these is enough. Whichever are shown must be good, and of one owner.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub any: Option<Vec<At<String>>>,
    /// All of these are needed, of one owner; the first says what the caller may do.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub all: Option<Vec<At<String>>>,
}

impl AuthRule {
    /// What holds where nothing is written: an API key.
    pub fn usual() -> Self {
        let api_key = At { value: "api-key".to_owned(), span: 0..0 };
        Self::Schemes(SchemesRule { any: Some(vec![api_key]), all: None })
    }
}

impl Authenticate {
    /// What this rule demands, with the schemes that policy defines, by their names.
    ///
    /// `realm` names the API in challenges. All mistakes are reported through `reading`.
    pub fn compile(
        rule: &At<AuthRule>,
        schemes: &BTreeMap<String, Arc<dyn Scheme>>,
        realm: &str,
        reading: &mut Reading<'_>,
    ) -> Option<Self> {
        const HELP: &str = "write { any = [\"api-key\"] }, { all = [\"api-key\", …] }, or \"none\"";
        let (demand, names) = match &rule.value {
            AuthRule::Word(word) if word == "none" => {
                return Some(Self {
                    demand: Demand::None,
                    schemes: [].into(),
                    missing: Reason::CredentialMissing,
                    challenges: None,
                });
            }
            AuthRule::Schemes(SchemesRule { any: Some(names), all: None }) => (Demand::Any, names),
            AuthRule::Schemes(SchemesRule { any: None, all: Some(names) }) => (Demand::All, names),
            AuthRule::Word(word) => {
                reading.wrong(Code::BadAuth, &rule.span, format!("`{word}` is no `auth`"), HELP);
                return None;
            }
            AuthRule::Schemes(SchemesRule { any, .. }) => {
                let says = match any {
                    Some(_) => "`auth` has both `any` and `all`",
                    None => "`auth` has neither `any` nor `all`",
                };
                reading.wrong(Code::BadAuth, &rule.span, says, HELP);
                return None;
            }
        };
        if names.is_empty() {
            reading.wrong(Code::BadAuth, &rule.span, "`auth` names no scheme", HELP);
            return None;
        }
        let members = members((demand, names), schemes, reading)?;
        let is_signature = |member: &Member| member.missing == Reason::SignatureMissing;
        let missing = match demand {
            Demand::All => members.first().map(|first| first.missing),
            Demand::Any | Demand::None if members.iter().all(is_signature) => {
                Some(Reason::SignatureMissing)
            }
            Demand::Any | Demand::None => None,
        };
        Some(Self {
            demand,
            missing: missing.unwrap_or(Reason::CredentialMissing),
            challenges: Some([false, true].map(|with_body| challenges(&members, realm, with_body))),
            schemes: members.into(),
        })
    }
}

impl Member {
    fn new(scheme: Arc<dyn Scheme>) -> Self {
        let family = scheme.name().split('.').next().unwrap_or_default();
        let family = Name::new(family).text();
        let missing = match family {
            "signature" => Reason::SignatureMissing,
            _ => Reason::CredentialMissing,
        };
        Self { names: vec![scheme.name().into()], scheme, family, missing }
    }
}

/// The schemes with these names, or every mistake in the names.
fn members(
    (demand, names): (Demand, &[At<String>]),
    schemes: &BTreeMap<String, Arc<dyn Scheme>>,
    reading: &mut Reading<'_>,
) -> Option<Vec<Member>> {
    let mut members: Vec<Member> = Vec::with_capacity(names.len());
    let mut are_sound = true;
    for name in names {
        let Some(scheme) = schemes.get(&name.value) else {
            // What is defined but broken was reported where it stands.
            let sections = [("signature", "signatures"), ("certificate", "certificates")];
            let broken = sections.iter().find_map(|(kind, section)| {
                let name = name.strip_prefix(kind)?.strip_prefix('.')?;
                Some(format!("{section}.{name}"))
            });
            are_sound = false;
            if reading.mistakes.is_broken(&broken.unwrap_or_else(|| name.value.clone())) {
                continue;
            }
            let says = format!("there is no scheme `{}`", name.value);
            let help = suggest(&name.value, schemes.keys().map(String::as_str));
            reading.wrong(Code::Undefined, &name.span, says, help);
            continue;
        };
        let member = Member::new(Arc::clone(scheme));
        match members.iter_mut().find(|earlier| earlier.family == member.family) {
            None => members.push(member),
            Some(earlier) => match with_more(earlier, &member, demand) {
                Ok(scheme) => {
                    earlier.names.extend(member.names);
                    earlier.scheme = scheme;
                }
                Err((says, help)) => {
                    are_sound = false;
                    reading.wrong(Code::BadAuth, &name.span, says, help);
                }
            },
        }
    }
    let has = |family: &str| members.iter().any(|member| member.family == family);
    let carried = Carried {
        keys: has(api_key::NAME),
        tokens: has(jwt::FAMILY),
        opaque: has(introspection::FAMILY),
    };
    for member in &mut members {
        if let Some(scheme) = member.scheme.on_route(carried) {
            member.scheme = scheme;
        }
    }
    are_sound.then_some(members)
}

/// The scheme of two tables of tokens, where a token is judged by the table whose issuer it names.
///
/// # Errors
/// What is wrong with two schemes of one kind, and what to do about it. A caller shows one credential
/// of a kind; to prove it twice would spend its nonce twice.
fn with_more(
    earlier: &Member,
    member: &Member,
    demand: Demand,
) -> Result<Arc<dyn Scheme>, (String, &'static str)> {
    let mut tables = earlier.scheme.issuers().to_vec();
    let more = member.scheme.issuers();
    if tables.is_empty() || demand != Demand::Any {
        let says = format!("`auth` asks twice for a credential of the kind `{}`", member.family);
        return Err((says, "name one scheme of a kind"));
    }
    let is_known = |own: &&Arc<Verifier>| tables.iter().any(|table| table.issuer() == own.issuer());
    if let Some(own) = more.iter().find(is_known) {
        let says = format!("`auth` names two tables of the issuer `{}`", own.issuer());
        let help = "name one: a token is judged by the table whose issuer it names";
        return Err((says, help));
    }
    tables.extend_from_slice(more);
    Ok(Arc::new(JwtScheme::of(tables, Carried::default())))
}

/// What a route with these schemes asks for at first, and after something that did not do.
fn challenges(members: &[Member], realm: &str, with_body: bool) -> (Challenge, Challenge) {
    let reads_bearer = |member: &Member| {
        [api_key::NAME, jwt::FAMILY, introspection::FAMILY].contains(&member.family)
    };
    let bearer = members.iter().any(reads_bearer);
    let signatures: Vec<HeaderValue> =
        members.iter().filter_map(|member| member.scheme.challenge(with_body)).collect();
    let challenge = |error| {
        let challenge = Challenge::new(realm, bearer, error, &signatures);
        match members.iter().any(|m| [jwt::FAMILY, introspection::FAMILY].contains(&m.family)) {
            true => challenge.or_dpop(error, jwt::dpop::ALGORITHMS),
            false => challenge,
        }
    };
    (challenge(None), challenge(Some("invalid_token")))
}

impl<'de> Deserialize<'de> for AuthRule {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // By hand, because serde's untagged enums lose the places of what they hold.
        from.deserialize_any(WordOrSchemes)
    }
}

struct WordOrSchemes;

impl<'de> Visitor<'de> for WordOrSchemes {
    type Value = AuthRule;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`{ any = [\"api-key\"] }`, `{ all = [\"api-key\", …] }` or `\"none\"`")
    }

    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<AuthRule, E> {
        Ok(AuthRule::Word(word.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AuthRule, A::Error> {
        SchemesRule::deserialize(MapAccessDeserializer::new(map)).map(AuthRule::Schemes)
    }
}

impl JsonSchema for AuthRule {
    fn schema_name() -> Cow<'static, str> {
        "AuthRule".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let schemes = generator.subschema_for::<SchemesRule>();
        json_schema!({
            "description": "Who may call: `{ any = [\"api-key\"] }`, `{ all = [\"api-key\", \"signature.NAME\"] }`, or \"none\" to open the route on purpose.",
            "anyOf": [{ "type": "string", "enum": ["none"] }, schemes],
        })
    }
}
