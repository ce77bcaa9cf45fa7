//! The keys that tokens are signed with: made by the gateway, kept sealed, rotated, and published.
//!
//! A key is published some time before it signs, so that verifiers which fetch the keys now and
//! then know it by then, and for as long as a token may be in use that it has signed. Its private
//! half lies in the store and nowhere else.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::clock::Now;
use crate::forward::identity::token::{LIFETIME_MAX, TYPE};
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::store::{Batch, Store, StoreFault, Table};
use crate::units::Span;

/// How far a verifier's clock may be behind ours, at most.
const SKEW: Duration = Duration::from_secs(60);
/// A key is published so long before it signs, unless keys live shorter than four times that.
const AHEAD_MAX: Duration = Duration::from_secs(3600);
const EVERY_MIN: Duration = Duration::from_secs(3600);
const EVERY_MAX: Duration = Duration::from_secs(365 * 86_400);
const EVERY: Duration = Duration::from_secs(30 * 86_400);
/// Records of keys begin so, in the table of facts about the gateway.
const RECORD: &str = "identity-key/";

/// How tokens for upstreams are signed, as written in `[identity]`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IssuerRule {
    /// Who tokens say they are from (`iss`). Default `"portcullis"`.
    pub issuer: Option<At<String>>,
    /// How they are signed. Default `"EdDSA"`.
    pub algorithm: Option<Algorithm>,
    /// How long a key signs before the next one does, `"1h"` to `"365d"`. Default `"30d"`.
    pub rotate_every: Option<At<Span>>,
}

/// How tokens are signed (RFC 7518, section 3.1; RFC 8037, section 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// Ed25519.
    #[default]
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
}

/// Signs tokens, and tells the world with which keys. One for the process; without keys until it
/// is opened.
pub struct Issuer {
    name: Box<str>,
    algorithm: Algorithm,
    every: Duration,
    keys: ArcSwap<Vec<Arc<Key>>>,
    /// Held while keys change, so that only one does.
    changing: Mutex<()>,
}

impl Issuer {
    /// The issuer that a rule describes; reports all that is wrong with it.
    pub fn compile(rule: &IssuerRule, reading: &mut Reading<'_>) -> Arc<Self> {
        let every = rule.rotate_every.as_ref().map_or(EVERY, |every| every.value.0);
        if let Some(written) = &rule.rotate_every
            && !(EVERY_MIN..=EVERY_MAX).contains(&every)
        {
            let says = "`rotate_every` is out of its range";
            reading.wrong(Code::WrongValue, &written.span, says, "write \"1h\" to \"365d\"");
        }
        if let Some(written) = &rule.issuer
            && !(1..=256).contains(&written.len())
        {
            let says = "`issuer` has from 1 to 256 bytes";
            reading.wrong(Code::WrongValue, &written.span, says, "write a name or an https URL");
        }
        Arc::new(Self {
            name: rule.issuer.as_ref().map_or("portcullis", |name| name.as_str()).into(),
            algorithm: rule.algorithm.unwrap_or_default(),
            every,
            keys: ArcSwap::default(),
            changing: Mutex::default(),
        })
    }

    /// Who tokens say they are from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes the keys out of the store, and makes the first when there is none. It waits for the
    /// disk.
    ///
    /// # Errors
    /// When the disk fails, a record was changed from outside, or there is no randomness.
    pub fn open(&self, store: &Store, now: Now) -> Result<(), StoreFault> {
        let mut keys = Vec::new();
        store.scan(Table::Meta, |id, value| match id.strip_prefix(RECORD) {
            None => Ok(()),
            Some(kid) => {
                let key = Key::restored(value).filter(|key| *key.kid == *kid);
                keys.push(Arc::new(key.ok_or_else(|| damaged(id))?));
                Ok::<_, StoreFault>(())
            }
        })?;
        keys.sort_by_key(|key| key.from_ms);
        self.keys.store(Arc::new(keys));
        self.tend(store, now).map(drop)
    }

    /// Makes the next key when it is due, and forgets those whose tokens have all ended. Whether
    /// anything changed. It waits for the disk.
    ///
    /// # Errors
    /// As [`Issuer::open`]; the keys stay as they are then.
    pub fn tend(&self, store: &Store, now: Now) -> Result<bool, StoreFault> {
        let _turn = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.keys.load_full();
        let mut batch = Batch::default();
        let mut keys = Vec::with_capacity(before.len() + 1);
        for (number, key) in before.iter().enumerate() {
            let replaced_ms = before.get(number + 1).map(|next| next.from_ms);
            let ended_ms = replaced_ms.map(|at| at.saturating_add(millis(LIFETIME_MAX + SKEW)));
            if ended_ms.is_some_and(|ended_ms| ended_ms <= now.unix_ms) {
                batch.delete(Table::Meta, record_id(&key.kid));
            } else {
                keys.push(Arc::clone(key));
            }
        }
        let fresh = self.due_ms(keys.last(), now);
        if let Some(from_ms) = fresh {
            let (key, record) = Key::fresh(self.algorithm, from_ms)?;
            batch.put(Table::Meta, record_id(&key.kid), record);
            keys.push(Arc::new(key));
        }
        if fresh.is_none() && keys.len() == before.len() {
            return Ok(false);
        }
        // On disk first: what was published outlives the process.
        store.write(batch)?;
        self.keys.store(Arc::new(keys));
        Ok(true)
    }

    /// From when the next key is to sign, in Unix milliseconds, when it has to be made now.
    fn due_ms(&self, newest: Option<&Arc<Key>>, now: Now) -> Option<u64> {
        let Some(newest) = newest.filter(|newest| newest.algorithm == self.algorithm) else {
            return Some(now.unix_ms);
        };
        let ahead_ms = millis(AHEAD_MAX.min(self.every / 4));
        let next_ms = newest.from_ms.saturating_add(millis(self.every));
        let due = next_ms <= now.unix_ms.saturating_add(ahead_ms);
        // Whoever was stopped for long publishes ahead, too.
        due.then(|| next_ms.max(now.unix_ms + ahead_ms))
    }

    /// The public keys, as a JWK Set (RFC 7517, section 5).
    pub fn published(&self) -> Value {
        json!({ "keys": self.keys.load().iter().map(|key| &key.jwk).collect::<Vec<_>>() })
    }

    /// How many keys are published.
    pub fn count(&self) -> usize {
        self.keys.load().len()
    }

    /// The token with these claims, as text (RFC 7515, section 3.1); nothing without a key.
    pub(in crate::forward) fn sign(&self, claims: &[u8], now: Now) -> Option<String> {
        let keys = self.keys.load();
        let ready = keys.iter().rev().find(|key| key.from_ms <= now.unix_ms);
        // A calendar that was set back must not leave us without a key.
        let key = ready.or_else(|| keys.first())?;
        let mut text = String::with_capacity(key.header.len() + claims.len() * 4 / 3 + 96);
        text.push_str(&key.header);
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut text);
        let signature = key.sign(text.as_bytes())?;
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        Some(text)
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Issuer({}, {} keys)", self.name, self.count())
    }
}

/// One key, ready to sign.
struct Key {
    kid: Box<str>,
    algorithm: Algorithm,
    pair: Pair,
    /// The public half (RFC 7517, section 4).
    jwk: Value,
    /// The first part of every token that it signs.
    header: Box<str>,
    from_ms: u64,
}

enum Pair {
    EdDsa(Box<Ed25519KeyPair>),
    Es256(Box<EcdsaKeyPair>),
}

/// A key as the store holds it.
#[derive(Serialize, Deserialize, ZeroizeOnDrop)]
struct Kept {
    #[zeroize(skip)]
    algorithm: Algorithm,
    #[zeroize(skip)]
    from_ms: u64,
    /// PKCS#8, base64.
    private: String,
}

impl Key {
    /// A new key, and its record.
    fn fresh(algorithm: Algorithm, from_ms: u64) -> Result<(Self, Zeroizing<Vec<u8>>), StoreFault> {
        let random = SystemRandom::new();
        let made = match algorithm {
            Algorithm::EdDsa => Ed25519KeyPair::generate_pkcs8(&random),
            Algorithm::Es256 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            }
        };
        let private = made.map_err(|ring::error::Unspecified| StoreFault::NoRandomness)?;
        let private = URL_SAFE_NO_PAD.encode(private.as_ref());
        let kept = Kept { algorithm, from_ms, private };
        let record = serde_json::to_vec(&kept).map(Zeroizing::new);
        let record = record.map_err(|_| damaged(RECORD))?;
        let key = Self::restored(&record).ok_or_else(|| damaged(RECORD))?;
        Ok((key, record))
    }

    fn restored(record: &[u8]) -> Option<Self> {
        let kept: Kept = serde_json::from_slice(record).ok()?;
        let (algorithm, from_ms) = (kept.algorithm, kept.from_ms);
        let private = Zeroizing::new(URL_SAFE_NO_PAD.decode(&kept.private).ok()?);
        let (pair, members) = match algorithm {
            Algorithm::EdDsa => {
                let pair = Ed25519KeyPair::from_pkcs8(&private).ok()?;
                let x = URL_SAFE_NO_PAD.encode(pair.public_key());
                let members = json!({ "crv": "Ed25519", "kty": "OKP", "x": x });
                (Pair::EdDsa(Box::new(pair)), members)
            }
            Algorithm::Es256 => {
                let (form, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
                let pair = EcdsaKeyPair::from_pkcs8(form, &private, &random).ok()?;
                // An uncompressed point: 4, x, y (SEC 1, section 2.3.3).
                let (x, y) = pair.public_key().as_ref().get(1..)?.split_at_checked(32)?;
                let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
                let members = json!({ "crv": "P-256", "kty": "EC", "x": x, "y": y });
                (Pair::Es256(Box::new(pair)), members)
            }
        };
        let kid = thumbprint(&members);
        let header = json!({ "alg": algorithm, "kid": kid, "typ": TYPE });
        let mut jwk = members;
        if let Some(jwk) = jwk.as_object_mut() {
            jwk.insert("alg".to_owned(), json!(algorithm));
            jwk.insert("kid".to_owned(), json!(kid));
            jwk.insert("use".to_owned(), json!("sig"));
        }
        let header = URL_SAFE_NO_PAD.encode(header.to_string()).into();
        Some(Self { kid: kid.into(), algorithm, pair, jwk, header, from_ms })
    }

    fn sign(&self, text: &[u8]) -> Option<Vec<u8>> {
        match &self.pair {
            Pair::EdDsa(pair) => Some(pair.sign(text).as_ref().to_vec()),
            Pair::Es256(pair) => {
                pair.sign(&SystemRandom::new(), text).ok().map(|signed| signed.as_ref().to_vec())
            }
        }
    }
}

/// The name of a key: the hash of its required members in the order of their names (RFC 7638),
/// which is the order in which a JSON object of ours is written.
fn thumbprint(members: &Value) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, members.to_string().as_bytes()))
}

fn record_id(kid: &str) -> String {
    format!("{RECORD}{kid}")
}

fn damaged(id: &str) -> StoreFault {
    StoreFault::Damaged { table: Table::Meta.name(), id: id.to_owned() }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mistake::Mistakes;
    use crate::mistake::source::Source;

    const DAY_MS: u64 = 86_400_000;

    fn issuer(algorithm: Algorithm) -> Arc<Issuer> {
        let (source, mut mistakes) = (Source::new("gateway.toml", ""), Mistakes::default());
        let rule = IssuerRule { algorithm: Some(algorithm), ..IssuerRule::default() };
        Issuer::compile(&rule, &mut Reading { source: &source, mistakes: &mut mistakes })
    }

    fn on(day: u64, more_ms: u64) -> Now {
        Now { steady_ns: 0, unix_ms: 1_764_000_000_000 + day * DAY_MS + more_ms }
    }

    fn kids(issuer: &Issuer) -> Vec<String> {
        let published = issuer.published();
        let keys = published["keys"].as_array().unwrap().iter();
        keys.map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    }

    fn signer(issuer: &Issuer, now: Now) -> String {
        let token = issuer.sign(b"{}", now).unwrap();
        let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
        let header: Value = serde_json::from_slice(&header).unwrap();
        header["kid"].as_str().unwrap().to_owned()
    }

    #[test]
    fn the_name_of_a_key_is_its_thumbprint() {
        // RFC 8037, appendix A.3.
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let members = json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
        assert_eq!(thumbprint(&members), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn keys_rotate_without_a_moment_in_which_a_token_cannot_be_verified() {
        let store = Store::in_memory().unwrap();
        let issuer = issuer(Algorithm::EdDsa);
        issuer.open(&store, on(0, 0)).unwrap();
        let first = kids(&issuer);
        assert_eq!(first.len(), 1);
        assert!(!issuer.tend(&store, on(29, 0)).unwrap());
        // An hour before its turn the next key is published, and the first still signs.
        let hour = 3_600_000;
        assert!(issuer.tend(&store, on(29, DAY_MS - hour)).unwrap());
        let both = kids(&issuer);
        assert_eq!(both.len(), 2);
        assert_eq!(signer(&issuer, on(29, DAY_MS - 1)), first[0]);
        assert_eq!(signer(&issuer, on(30, 0)), both[1]);

        // What the first key signed last has ended two minutes later, and so has the key.
        assert!(!issuer.tend(&store, on(30, 119_999)).unwrap());
        assert!(issuer.tend(&store, on(30, 120_000)).unwrap());
        assert_eq!(kids(&issuer), both[1..]);
        assert!(store.get(Table::Meta, &record_id(&first[0])).unwrap().is_none());
        assert!(store.get(Table::Meta, &record_id(&both[1])).unwrap().is_some());
    }

    #[test]
    fn keys_outlive_the_process_and_lie_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let master = crate::secret::Secret::new(vec![7; 32]);
        let before = issuer(Algorithm::Es256);
        before.open(&Store::open(dir.path(), &master).unwrap(), on(0, 0)).unwrap();
        let after = issuer(Algorithm::Es256);
        after.open(&Store::open(dir.path(), &master).unwrap(), on(1, 0)).unwrap();
        assert_eq!(kids(&before), kids(&after));
        let file = std::fs::read(dir.path().join(crate::store::FILE_NAME)).unwrap();
        let shown = |word: &[u8]| file.windows(word.len()).any(|window| window == word);
        assert!(shown(RECORD.as_bytes()) && !shown(b"private") && !shown(b"ES256"));
    }

    #[test]
    fn another_algorithm_brings_a_key_at_once() {
        let store = Store::in_memory().unwrap();
        let (before, after) = (issuer(Algorithm::EdDsa), issuer(Algorithm::Es256));
        before.open(&store, on(0, 0)).unwrap();
        after.open(&store, on(1, 0)).unwrap();
        assert_eq!(kids(&after).len(), 2);
        assert_eq!(signer(&after, on(1, 0)), kids(&after)[1]);
    }
}
