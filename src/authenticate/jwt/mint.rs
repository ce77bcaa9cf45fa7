//! Mints tokens for policy tests, with the one secret that stands for every key in a rehearsal.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use crate::authenticate::jwt::claims::ClaimPath;
use crate::authenticate::jwt::{Kind, Verifier};
use crate::clock::Now;
use crate::secret::Secret;

/// Tokens of a test live so long, in seconds, unless the policy allows less.
const LIFETIME_S: u64 = 300;

/// Whom a test's token is of.
#[derive(Clone, Copy, Debug)]
pub struct Holder<'a> {
    /// The subject.
    pub subject: &'a str,
    /// Roles.
    pub roles: &'a [String],
    /// Scopes.
    pub scopes: &'a [String],
    /// Tier.
    pub tier: Option<&'a str>,
    /// What the token says beside; it replaces what it would say otherwise.
    pub claims: &'a Map<String, Value>,
}

impl Verifier {
    /// A token that this verifier takes, as far as the holder's own claims let it.
    ///
    /// # Errors
    /// Outside of rehearsals, where nobody has an issuer's keys.
    pub fn mint(&self, holder: &Holder<'_>, now: Now) -> Result<String, String> {
        let held = self.keys.current(now).map_err(|_| "there are no keys".to_owned())?;
        let key = held.keys().first().ok_or("there are no keys")?;
        let name = Secret::random(16).map_err(|fault| fault.to_string())?;
        let name: String = name.expose().iter().map(|byte| format!("{byte:02x}")).collect();
        let now_s = now.unix_s();
        let mut claims = Map::new();
        let usual = [
            ("iss", json!(self.issuer)),
            ("aud", json!(self.audience.first())),
            ("iat", json!(now_s)),
            ("exp", json!(now_s + LIFETIME_S.min(self.limits.lifetime_s))),
            ("auth_time", json!(now_s)),
            ("jti", json!(name)),
            ("client_id", json!("test")),
        ];
        claims.extend(usual.map(|(name, value)| (name.to_owned(), value)));
        let mapping = &self.mapping;
        put(&mut claims, Some(&mapping.subject), json!(holder.subject));
        put(&mut claims, mapping.scopes.first(), json!(holder.scopes.join(" ")));
        put(&mut claims, mapping.roles.first(), json!(holder.roles));
        put(
            &mut claims,
            mapping.tier.as_ref().filter(|_| holder.tier.is_some()),
            json!(holder.tier),
        );
        claims.extend(holder.claims.clone());
        let typ = if self.kind == Kind::AccessToken { "at+jwt" } else { "JWT" };
        let header = json!({ "alg": key.algorithm().name(), "typ": typ });
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&Value::Object(claims)));
        let signature = key.sign(signed.as_bytes()).ok_or("nobody has the issuer's keys")?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// Puts a value where a claim is looked for.
fn put(claims: &mut Map<String, Value>, path: Option<&ClaimPath>, value: Value) {
    let Some((last, outer)) = path.and_then(|path| path.names().split_last()) else { return };
    let mut object = claims;
    for name in outer {
        let inner = object.entry(name.to_string()).or_insert_with(|| json!({}));
        if !inner.is_object() {
            *inner = json!({});
        }
        let Some(inner) = inner.as_object_mut() else { return };
        object = inner;
    }
    object.insert(last.to_string(), value);
}
