//! What schemes that believe somebody outside are compiled with, and how they read what rules share.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::authenticate::ask::Errands;
use crate::authenticate::assurance::Wanted;
use crate::authenticate::client::Site;
use crate::authenticate::directory::Directory;
use crate::authenticate::jwt::claims::{ClaimPath, Known, Mapping};
use crate::authenticate::jwt::keys::KeySets;
use crate::authenticate::jwt::refresh::read_file;
use crate::authenticate::nonce::Nonces;
use crate::authenticate::sessions::Sessions;
use crate::clock::Clock;
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::read::INLINE_SECRET;
use crate::mistake::source::At;
use crate::secret::{NoRandomness, Secret};
use crate::units::{Network, Span};

/// Follows `env:NAME`, `file:PATH` and `credential:NAME` to a secret, or says what is wrong.
pub type Secrets = Arc<dyn Fn(&str) -> Result<Secret, String> + Send + Sync>;

/// The process's own things that such schemes need. They outlive every policy.
#[derive(Clone)]
pub struct Outside {
    /// Follows references to secrets.
    pub secrets: Secrets,
    /// The keys of issuers.
    pub key_sets: Arc<KeySets>,
    /// What was revoked.
    pub sessions: Arc<Sessions>,
    /// Who asks issuers what tokens are worth.
    pub errands: Errands,
}

impl Outside {
    /// A process's own, with nothing fetched and nothing revoked yet.
    pub fn new(secrets: Secrets) -> Self {
        Self {
            secrets,
            key_sets: Arc::default(),
            sessions: Arc::default(),
            errands: Errands::default(),
        }
    }

    /// That of a rehearsal: nobody outside is asked, and one random secret stands for every
    /// secret and key. References are still read, so that one that is none is a mistake.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn rehearsed(check: fn(&str) -> Result<(), String>) -> Result<Self, NoRandomness> {
        let secret = Secret::random(64)?;
        let key_sets = Arc::new(KeySets::rehearsed(secret.clone()));
        let secrets: Secrets = Arc::new(move |reference| {
            check(reference)?;
            Ok(secret.clone())
        });
        Ok(Self { key_sets, errands: Errands::none(), ..Self::new(secrets) })
    }
}

/// What a policy gives to such schemes beside their own rules.
pub struct Surroundings<'a> {
    /// The process's own things.
    pub outside: &'a Outside,
    /// Names of proofs that were seen.
    pub nonces: &'a Arc<Nonces>,
    /// The directory of the policy, which relative paths begin from.
    pub dir: &'a Path,
    /// The names of the policy.
    pub known: &'a Known,
    /// The claims that its doors ask for.
    pub wanted: &'a Wanted,
    /// API keys, which tokens are told from.
    pub directory: &'a Arc<Directory>,
    /// Where time comes from.
    pub clock: &'a Clock,
}

impl Surroundings<'_> {
    /// The secret behind a reference, of at least so many bytes.
    pub(in crate::authenticate) fn secret(
        &self,
        reference: &At<String>,
        bytes_min: usize,
        reading: &mut Reading<'_>,
    ) -> Option<Secret> {
        let (code, says) = match (self.outside.secrets)(reference) {
            Ok(secret) if secret.expose().len() >= bytes_min => return Some(secret),
            Ok(_) => (Code::WrongValue, format!("the secret has fewer than {bytes_min} bytes")),
            Err(says) if says.starts_with(INLINE_SECRET) => (Code::InlineSecret, says),
            Err(says) => (Code::Unreadable, says),
        };
        let help = "write \"env:NAME\", \"file:PATH\" or \"credential:NAME\"; `openssl rand -base64 48` makes a good secret";
        reading.wrong(code, &reference.span, says, help);
        None
    }

    /// A site to be asked, with the authorities of a PEM file where one is named.
    pub(in crate::authenticate) fn site(
        &self,
        url: &At<String>,
        (reachable, roots): (&[Network], Option<&At<String>>),
        reading: &mut Reading<'_>,
    ) -> Option<Site> {
        let pem = match roots {
            None => None,
            Some(roots) => Some(self.file(roots, reading)?),
        };
        match Site::read(url, reachable, pem.as_deref()) {
            Ok(site) => Some(site),
            Err(says) => {
                let says = format!("`{}` {says}", url.value);
                let help = "write \"https://HOST/PATH\"; networks that are not public have to stand in `reachable`";
                reading.wrong(Code::BadAddress, &url.span, says, help);
                None
            }
        }
    }

    /// The bytes of a file that is named by `file:PATH`, from the policy's directory on.
    pub(in crate::authenticate) fn file(
        &self,
        named: &At<String>,
        reading: &mut Reading<'_>,
    ) -> Option<Vec<u8>> {
        let read = match named.strip_prefix("file:") {
            Some(path) if !path.is_empty() => read_file(&self.dir.join(path)),
            Some(_) | None => Err(format!("`{}` names no file", named.value)),
        };
        match read {
            Ok(bytes) => Some(bytes),
            Err(says) => {
                let help = "write \"file:PATH\", from the policy's directory on";
                reading.wrong(Code::Unreadable, &named.span, says, help);
                None
            }
        }
    }
}

/// How claims are mapped, as rules write it.
pub(in crate::authenticate) struct MappingRule<'a> {
    pub(in crate::authenticate) subject: Option<&'a At<String>>,
    pub(in crate::authenticate) scopes: Option<&'a At<Vec<At<String>>>>,
    pub(in crate::authenticate) roles: Option<&'a At<Vec<At<String>>>>,
    pub(in crate::authenticate) tier: Option<&'a At<String>>,
}

impl MappingRule<'_> {
    /// The mapping, with the names of the policy.
    pub(in crate::authenticate) fn compile(
        &self,
        surroundings: &Surroundings<'_>,
        reading: &mut Reading<'_>,
    ) -> Option<Mapping> {
        let usual =
            |names: &[&str]| names.iter().filter_map(|name| ClaimPath::read(name)).collect();
        let mut list = |written: Option<&At<Vec<At<String>>>>, default: &[&str]| match written {
            None => Some(usual(default)),
            Some(written) => written.iter().map(|name| claim(name, reading)).collect(),
        };
        let (scopes, roles) = (list(self.scopes, &["scope", "scp"]), list(self.roles, &["roles"]));
        let subject = match self.subject {
            None => ClaimPath::read("sub"),
            Some(written) => claim(written, reading),
        };
        let tier = match self.tier {
            None => None,
            Some(written) => Some(claim(written, reading)?),
        };
        Some(Mapping {
            subject: subject?,
            scopes: scopes?,
            roles: roles?,
            tier,
            known: surroundings.known.clone(),
            wanted: Arc::clone(surroundings.wanted),
        })
    }
}

fn claim(written: &At<String>, reading: &mut Reading<'_>) -> Option<ClaimPath> {
    let path = ClaimPath::read(written);
    if path.is_none() {
        let says = format!("`{}` names no claim", written.value);
        let help = "write a claim's name, or \"/outer/inner\" for one inside another";
        reading.wrong(Code::WrongValue, &written.span, says, help);
    }
    path
}

/// A length of time in whole seconds, within a range; the default where nothing is written.
pub(in crate::authenticate) fn seconds(
    written: Option<&At<Span>>,
    default: u64,
    range: RangeInclusive<u64>,
    reading: &mut Reading<'_>,
) -> Option<u64> {
    let Some(At { value: Span(length), span }) = written else { return Some(default) };
    if range.contains(&length.as_secs()) && length.subsec_nanos() == 0 {
        return Some(length.as_secs());
    }
    let shown = |seconds: &u64| Span(Duration::from_secs(*seconds));
    reading.wrong(
        Code::WrongValue,
        span,
        format!("`{}` is out of range", Span(*length)),
        format!("write whole seconds from {} to {}", shown(range.start()), shown(range.end())),
    );
    None
}
