//! Lets principals manage their own API keys over the API, on a route that the policy opens for it.
//!
//! The calls are those of the administration, in so far as they make sense for an owner: `create`,
//! `list`, `show`, `rotate` and `revoke`. Who may call, how often, from where and with what proof is said by
//! the route as for any other; here is only what a credential may hand on.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::authenticate::directory::Directory;
use crate::authenticate::directory::fault::DirectoryFault;
use crate::authenticate::directory::own::{Asker, Shown};
use crate::authenticate::key_format::KeyId;
use crate::authenticate::management::call::{Call, Template, key_id};
use crate::authenticate::management::{new_key, show};
use crate::authenticate::{Grant, Principal};
use crate::clock::Now;
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::{At, Origin};
use crate::refusal::extra::Extra;
use crate::refusal::{Reason, Refusal};
use crate::units::Span;

/// How many bytes a call has, at most.
pub const BODY_BYTES_MAX: u64 = 8 << 10;

/// How many calls are worked on at a time; they wait for a disk.
const PLACES: usize = 4;
/// How long a call waits for its turn.
const TURN_MAX: Duration = Duration::from_secs(5);
const KEYS_MAX: usize = 5;
const AGE_MAX: Duration = Duration::from_secs(90 * 86_400);

/// What principals may do with their own API keys: `self_service = { keys_max = 5, max_age = "90d" }`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SelfServiceRule {
    /// How many live credentials a principal may have, 1 to 1000; those that operators made count too.
    /// Default 5.
    pub keys_max: Option<At<u32>>,
    /// How long a new key lives unless less is asked for, and at most: 1m to ten years. Default 90d.
    pub max_age: Option<At<Span>>,
    /// Whether keys that were made here may make, see and end keys too. Default false.
    pub made_keys: bool,
    /// Whether callers may, whom a token or a certificate proves: these end soon, and the keys that
    /// are made with them live on for up to `max_age`. Default false.
    pub tokens: bool,
}

/// The self-service of one route.
pub struct SelfService {
    directory: Arc<Directory>,
    origin: Origin,
    keys_max: usize,
    max_age: Duration,
    made_keys: bool,
    tokens: bool,
    /// What each role includes, itself among it.
    roles: BTreeMap<String, Vec<String>>,
    places: Arc<Semaphore>,
}

impl SelfService {
    /// The self-service that a rule describes; `roles` tells what each role includes.
    pub fn compile(
        rule: &At<SelfServiceRule>,
        route: &str,
        (directory, roles): (&Arc<Directory>, BTreeMap<String, Vec<String>>),
        reading: &mut Reading<'_>,
    ) -> Option<Self> {
        let mut wrong = |span: &Range<usize>, says: &str, help: &str| {
            reading.wrong(Code::WrongValue, span, says, help);
        };
        let keys_max = match &rule.keys_max {
            Some(max) if !(1..=1000).contains(&max.value) => {
                let help = "write for example keys_max = 5";
                wrong(&max.span, "a principal may have 1 to 1000 keys", help);
                None
            }
            Some(max) => usize::try_from(max.value).ok(),
            None => Some(KEYS_MAX),
        };
        let longest = Duration::from_secs(10 * 365 * 86_400);
        let max_age = match &rule.max_age {
            Some(age) if !(Duration::from_secs(60)..=longest).contains(&age.value.0) => {
                let help = "write for example max_age = \"90d\"";
                wrong(&age.span, "keys live at least 1m and at most ten years", help);
                None
            }
            Some(age) => Some(age.value.0),
            None => Some(AGE_MAX),
        };
        Some(Self {
            directory: Arc::clone(directory),
            origin: reading.origin(format!("routes.{route}.self_service"), &rule.span),
            keys_max: keys_max?,
            max_age: max_age?,
            made_keys: rule.made_keys,
            tokens: rule.tokens,
            roles,
            places: Arc::new(Semaphore::new(PLACES)),
        })
    }

    /// Does what the body of a request asks for, for whoever sent it.
    ///
    /// # Errors
    /// The reasons of the stage `forward` that are about keys. Nothing has changed then.
    pub async fn serve(
        self: &Arc<Self>,
        principal: &Principal,
        body: Bytes,
        now: Now,
    ) -> Result<Value, Refusal> {
        let asker = self.asker(principal).map_err(|refusal| refusal.by(&self.origin))?;
        let service = Arc::clone(self);
        let answered = placed(&self.places, move || service.answer(&asker, &body, now)).await;
        answered.flatten().map_err(|refusal| refusal.by(&self.origin))
    }

    /// What it allows, in words: `5 keys of 90d at most`.
    pub fn describe(&self) -> String {
        let Self { keys_max, max_age, made_keys, tokens, .. } = self;
        let also = match (made_keys, tokens) {
            (false, false) => "",
            (true, false) => ", also by keys made here",
            (false, true) => ", also by tokens and certificates",
            (true, true) => ", also by keys made here, tokens and certificates",
        };
        format!("{keys_max} keys of {} at most{also}", Span(*max_age))
    }

    fn asker(&self, principal: &Principal) -> Result<Asker, Refusal> {
        let refused = |why: &'static str| Err(Refusal::new(Reason::KeyCallerRefused).because(why));
        let Some(grant) = principal.grant() else { return refused("nobody is proved") };
        let shown = match (principal.scheme(), KeyId::parse(&grant.credential)) {
            // Only these are ids of the directory; another scheme's may look like one.
            ("api-key" | "signature", Some(id)) => Shown::Kept(id),
            _ if self.tokens => passing(grant),
            _ => return refused("tokens and certificates may not ask here"),
        };
        Ok(Asker {
            subject: grant.subject.to_string(),
            shown,
            live_max: self.keys_max,
            max_age: self.max_age,
            made_keys: self.made_keys,
        })
    }

    fn answer(&self, asker: &Asker, body: &[u8], now: Now) -> Result<Value, Refusal> {
        let call: Call = serde_json::from_slice(body).map_err(|_| {
            field("body", "is none of the calls that owners of keys may make, or has a member too many or too few")
        })?;
        self.perform(asker, &call, now).map_err(|fault| refusal_of(&fault))
    }

    fn perform(&self, asker: &Asker, call: &Call, now: Now) -> Result<Value, DirectoryFault> {
        let directory = &*self.directory;
        let subject = asker.subject.as_str();
        let may = |role: &str| self.roles.get(role).cloned().unwrap_or_default();
        match call {
            Call::Create { template, signing: false, public_key: None } => {
                let new = self.wish(asker, template, now)?;
                let created = directory.create_own(asker, new, may, now)?;
                tracing::info!(id = %created.id, subject, by = by(asker), "a key was made by its owner");
                show::handed_over(directory, &created)
            }
            Call::List(filter) if filter.owner.as_ref().is_none_or(|owner| owner == subject) => {
                let listed = show::list_of(directory, directory.own(asker, now)?, filter, now)?;
                Ok(listed.as_array().into_iter().flatten().map(told).collect())
            }
            Call::Show { id } => {
                let id = directory.one_of_own(asker, key_id(id)?, now)?.id;
                show::show(directory, id, now).map(|key| told(&key))
            }
            Call::Rotate { id: Some(id), owner: None, overlap_s } => {
                let (id, overlap) = (key_id(id)?, Duration::from_secs(*overlap_s));
                let created = directory.rotate_own(asker, id, overlap, may, now)?;
                tracing::info!(%id, successor = %created.id, subject, by = by(asker), "a key was rotated by its owner");
                show::handed_over(directory, &created)
            }
            Call::Revoke { id: Some(id), owner: None } => {
                let id = key_id(id)?;
                directory.revoke_own(asker, id, now)?;
                tracing::info!(%id, subject, by = by(asker), "a key was revoked by its owner");
                Ok(json!({ "revoked": id }))
            }
            Call::Create { .. }
            | Call::List(_)
            | Call::Rotate { .. }
            | Call::Revoke { .. }
            | Call::Suspend { .. }
            | Call::Resume { .. }
            | Call::Import { .. }
            | Call::Identify { .. } => {
                Err(DirectoryFault::Refused("that is for operators, by the administration"))
            }
        }
    }

    /// What a template asks for, where it is something that owners may ask for.
    fn wish(
        &self,
        asker: &Asker,
        template: &Template,
        now: Now,
    ) -> Result<crate::authenticate::directory::record::NewKey, DirectoryFault> {
        if template.canary {
            return Err(DirectoryFault::Refused("canaries are for operators"));
        }
        if !template.subject.is_empty() && template.subject != asker.subject {
            return Err(DirectoryFault::Beyond("its owner"));
        }
        let mut new = new_key(&self.directory, template, self.max_age, now)?;
        if template.expires_in_s.is_none() {
            new.expires_ms = None;
        }
        Ok(new)
    }
}

/// Does work that waits for a disk, once a place is free for it. Who leaves meanwhile leaves work that
/// goes on to its end, for half a change is none; it keeps its place until then, so that leaving
/// early gets nobody more places than there are.
async fn placed<T: Send + 'static>(
    places: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let place = tokio::time::timeout(TURN_MAX, Arc::clone(places).acquire_owned()).await;
    let Ok(Ok(place)) = place else {
        return Err(Refusal::new(Reason::KeysUnavailable).because("too many calls are waiting"));
    };
    let work = move || {
        let done = work();
        drop(place);
        done
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| Reason::GatewayFault.into())
}

fn passing(grant: &Grant) -> Shown {
    let texts = |names: &crate::name::Names| {
        names.iter().map(|name| name.text().to_owned()).collect::<Vec<_>>()
    };
    let credential: String =
        grant.credential.chars().filter(|c| !c.is_control()).take(128).collect();
    Shown::Passing {
        credential,
        roles: texts(&grant.roles),
        scopes: texts(&grant.scopes),
        tier: grant.tier.map(|tier| tier.text().to_owned()),
    }
}

fn by(asker: &Asker) -> &str {
    match &asker.shown {
        Shown::Kept(id) => id.as_str(),
        Shown::Passing { credential, .. } => credential,
    }
}

/// What owners are told of a credential: not what operators noted of it for themselves.
fn told(key: &Value) -> Value {
    let mut key = key.clone();
    if let Some(facts) = key.as_object_mut() {
        facts.remove("canary");
        facts.remove("suspended_why");
        if facts.get("made_by").is_none_or(Value::is_null) {
            facts.remove("note");
        }
    }
    key
}

fn field(name: &str, says: impl Into<Box<str>>) -> Refusal {
    let fields = [(Box::from(name), says.into())];
    Refusal::new(Reason::KeyCallRefused).with(Extra::Fields(fields.into()))
}

fn refusal_of(fault: &DirectoryFault) -> Refusal {
    let says = fault.to_string();
    let reason = match fault {
        DirectoryFault::Invalid { field: name, says } => return field(name, says.as_str()),
        DirectoryFault::BadLine { .. } => Reason::KeyCallRefused,
        DirectoryFault::Unknown(_) | DirectoryFault::Nobody(_) => Reason::KeyUnknown,
        DirectoryFault::Refused(_) => Reason::KeyCallerRefused,
        DirectoryFault::Beyond(_) | DirectoryFault::TooOld { .. } => Reason::KeyBeyond,
        DirectoryFault::Over(_)
        | DirectoryFault::Suspended(_)
        | DirectoryFault::AlreadyRotated { .. } => Reason::KeyUnfit,
        DirectoryFault::TooMany { .. } => Reason::KeysTooMany,
        DirectoryFault::Full { .. }
        | DirectoryFault::WeakPepper { .. }
        | DirectoryFault::BadEnvironment(_)
        | DirectoryFault::Unreadable { .. }
        | DirectoryFault::Store(_) => {
            tracing::error!(%says, "the keys could not be changed");
            Reason::KeysUnavailable
        }
    };
    Refusal::new(reason).because(says)
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::mpsc;
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn who_leaves_early_gets_no_more_places() {
        let places = Arc::new(Semaphore::new(1));
        let (began, begins) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        {
            let work = move || {
                began.send(()).unwrap();
                let _ = released.recv();
            };
            let mut left = pin!(placed(&places, work));
            assert!(left.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            begins.recv().unwrap();
        }
        assert_eq!(places.available_permits(), 0, "the work goes on");
        drop(release);
        assert_eq!(placed(&places, || 7).await.unwrap(), 7);
    }
}
