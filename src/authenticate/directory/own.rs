//! What principals do with their own credentials, never beyond the one that they show.
//!
//! Every check is made by whoever has the turn to change credentials, against what the store holds
//! at that moment: a credential that was revoked or replaced since it was shown hands nothing on.

use std::time::Duration;

use crate::authenticate::directory::change::{Created, millis};
use crate::authenticate::directory::fault::DirectoryFault;
use crate::authenticate::directory::life::Which;
use crate::authenticate::directory::record::{Described, Kind, NewKey, Record};
use crate::authenticate::directory::state::State;
use crate::authenticate::directory::{Directory, Writer};
use crate::authenticate::key_format::KeyId;
use crate::clock::Now;
use crate::units::Network;

/// How many credentials of one owner are listed: the newest.
const LISTED_MAX: usize = 1000;
/// How many credentials one owner makes in [`MADE_WITHIN_S`], so that making and revoking them in
/// turn fills no store.
const MADE_MAX: usize = 100;
const MADE_WITHIN_S: u64 = 30 * 86_400;

/// Who asks, and what the policy lets them do.
#[derive(Clone, Debug)]
pub struct Asker {
    /// Whose credentials these are.
    pub subject: String,
    /// What proved the caller.
    pub shown: Shown,
    /// How many live credentials they may have.
    pub live_max: usize,
    /// How long a new one may live.
    pub max_age: Duration,
    /// Whether credentials that were made by their owners may ask too.
    pub made_keys: bool,
}

/// What proved a caller.
#[derive(Clone, Debug)]
pub enum Shown {
    /// A credential of the directory. What it gives is read anew.
    Kept(KeyId),
    /// Something that nobody keeps here, a token or a certificate, and what it gives.
    Passing {
        /// Its name, for the record.
        credential: String,
        /// Roles.
        roles: Vec<String>,
        /// Scopes.
        scopes: Vec<String>,
        /// Tier.
        tier: Option<String>,
    },
}

/// How far whoever asks may go.
struct Reach {
    by: String,
    roles: Vec<String>,
    scopes: Vec<String>,
    tier: Option<String>,
    networks: Vec<Network>,
    latest_ms: u64,
}

/// Whether the credential that is shown will live on in what is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// Something new is made.
    Make,
    /// Something is looked at, or ended.
    Other,
}

impl Directory {
    /// The newest credentials of whoever asks, at most a thousand. Canaries are not among them: who
    /// stole a credential must not learn which others to leave alone.
    ///
    /// # Errors
    /// When the one that is shown does not do, or the store fails.
    pub fn own(&self, asker: &Asker, now: Now) -> Result<Vec<Described>, DirectoryFault> {
        let writer = self.turn();
        self.reach(&writer, asker, Wish::Other, now)?;
        let mut ids = Vec::new();
        self.each_own(&writer, asker, now, |id, _, made_s| ids.push((made_s, id)));
        drop(writer);
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ids.truncate(LISTED_MAX);
        ids.into_iter().map(|(_, id)| self.describe(id)).collect()
    }

    /// One credential of whoever asks.
    ///
    /// # Errors
    /// As [`Directory::own`], and when they own none with this id.
    pub fn one_of_own(
        &self,
        asker: &Asker,
        id: KeyId,
        now: Now,
    ) -> Result<Described, DirectoryFault> {
        let writer = self.turn();
        self.reach(&writer, asker, Wish::Other, now)?;
        Ok(writer.owned(asker, id)?.described)
    }

    /// Makes an API key of whoever asks. What `new` leaves open (tier, networks, its end) is as with
    /// the credential that is shown; roles and scopes are only those that it names.
    ///
    /// `may` says which roles whoever has one may hand on.
    ///
    /// # Errors
    /// When it would be more than what is shown, or more than one may have, or as
    /// [`Directory::create`].
    pub fn create_own(
        &self,
        asker: &Asker,
        mut new: NewKey,
        may: impl Fn(&str) -> Vec<String>,
        now: Now,
    ) -> Result<Created, DirectoryFault> {
        let mut writer = self.turn();
        let reach = self.reach(&writer, asker, Wish::Make, now)?;
        new.subject.clone_from(&asker.subject);
        new.tier = new.tier.or_else(|| reach.tier.clone());
        if new.networks.is_empty() {
            new.networks.clone_from(&reach.networks);
        }
        new.expires_ms = Some(new.expires_ms.unwrap_or(reach.latest_ms));
        new.made_by = Some(reach.by.clone());
        reach.covers(&new, may)?;
        self.own_environment(&new)?;
        if new.expires_ms > Some(reach.latest_ms) {
            return Err(DirectoryFault::Beyond("its end"));
        }
        new.check(now)?;
        self.check_age(&new, now)?;
        self.room_for_own(&writer, asker, asker.live_max, now)?;
        writer.room_for(1)?;
        let (record, created) = self.make(&writer, Kind::ApiKey, new, now)?;
        self.commit(&mut writer, &[record])?;
        writer.count += 1;
        Ok(created)
    }

    /// Makes a successor of an API key of whoever asks; it ends no later than what is shown.
    ///
    /// # Errors
    /// As [`Directory::create_own`] and [`Directory::rotate`].
    pub fn rotate_own(
        &self,
        asker: &Asker,
        id: KeyId,
        overlap: Duration,
        may: impl Fn(&str) -> Vec<String>,
        now: Now,
    ) -> Result<Created, DirectoryFault> {
        let mut writer = self.turn();
        let reach = self.reach(&writer, asker, Wish::Make, now)?;
        writer.owned(asker, id)?;
        let mut old = writer.replaceable(id, now)?;
        if !matches!(old.described.kind, Kind::ApiKey | Kind::Imported) {
            return Err(DirectoryFault::Refused("only API keys are rotated by their owners"));
        }
        let again = old.described.again(now);
        reach.covers(&again, may)?;
        self.own_environment(&again)?;
        // A key that is replaced does not count, so that whoever has as many as they may can still
        // rotate them; there is an end to that too.
        self.room_for_own(&writer, asker, asker.live_max.saturating_add(1), now)?;
        writer.room_for(1)?;
        let (mut fresh, created) = self.succeed(&writer, &mut old, overlap, now)?;
        let ends = &mut fresh.described.expires_ms;
        *ends = Some(ends.map_or(reach.latest_ms, |end| end.min(reach.latest_ms)));
        self.commit(&mut writer, &[fresh, old])?;
        writer.count += 1;
        Ok(created)
    }

    /// Ends a credential of whoever asks, at once.
    ///
    /// # Errors
    /// As [`Directory::one_of_own`].
    pub fn revoke_own(&self, asker: &Asker, id: KeyId, now: Now) -> Result<(), DirectoryFault> {
        // Nobody changes the owner of a credential, so the turn may be given back in between.
        self.one_of_own(asker, id, now)?;
        self.revoke_all(&Which::Key(id), now).map(drop)
    }

    /// How far whoever asks may go, by what the store says of the credential now.
    fn reach(
        &self,
        writer: &Writer,
        asker: &Asker,
        wish: Wish,
        now: Now,
    ) -> Result<Reach, DirectoryFault> {
        let latest_ms = now.unix_ms.saturating_add(millis(asker.max_age));
        let environment = self.environment();
        let latest_ms = self.max_age(environment).map_or(latest_ms, |max_age| {
            latest_ms.min(now.unix_ms.saturating_add(millis(max_age)))
        });
        let id = match &asker.shown {
            Shown::Passing { credential, roles, scopes, tier } => {
                let (roles, scopes, tier) = (roles.clone(), scopes.clone(), tier.clone());
                let by = credential.clone();
                return Ok(Reach { by, roles, scopes, tier, networks: Vec::new(), latest_ms });
            }
            Shown::Kept(id) => *id,
        };
        let Record { described, .. } = writer.record(id)?;
        let refused = |why| Err(DirectoryFault::Refused(why));
        match described.state(now) {
            State::Active | State::Expiring => {}
            State::Rotating if wish == Wish::Other => {}
            State::Rotating => return refused("it is being replaced; ask with its successor"),
            State::Suspended | State::Expired | State::Revoked => {
                return refused("it no longer holds");
            }
        }
        if described.canary || described.subject != asker.subject {
            return refused("it is not the caller's own");
        }
        if described.made_by.is_some() && !asker.made_keys {
            return refused("its owner made it, and the policy lets only other credentials ask");
        }
        let ends_ms = described.expires_ms.unwrap_or(u64::MAX);
        Ok(Reach {
            by: id.to_string(),
            roles: described.roles,
            scopes: described.scopes,
            tier: described.tier,
            networks: described.networks,
            latest_ms: latest_ms.min(ends_ms),
        })
    }

    /// Whether a new credential is for this environment, the only one whose credentials may ask.
    fn own_environment(&self, new: &NewKey) -> Result<(), DirectoryFault> {
        match new.environment.as_deref() {
            None => Ok(()),
            Some(environment) if environment == self.environment() => Ok(()),
            Some(_) => Err(DirectoryFault::Beyond("its environment")),
        }
    }

    /// Whether an owner may have one more credential.
    fn room_for_own(
        &self,
        writer: &Writer,
        asker: &Asker,
        live_max: usize,
        now: Now,
    ) -> Result<(), DirectoryFault> {
        let (mut live, mut leaving, mut lately) = (0, 0, 0);
        let since_s = now.unix_s().saturating_sub(MADE_WITHIN_S);
        self.each_own(writer, asker, now, |_, state, made_s| {
            lately += usize::from(made_s >= since_s);
            leaving += usize::from(state == State::Rotating);
            live += usize::from(state.is_live() && state != State::Rotating);
        });
        if live >= live_max || live + leaving >= live_max.saturating_mul(2) {
            return Err(DirectoryFault::TooMany { max: asker.live_max });
        }
        if lately >= MADE_MAX {
            return Err(DirectoryFault::TooMany { max: MADE_MAX });
        }
        Ok(())
    }

    /// Shows every credential of whoever asks but canaries, with its state and when it was made.
    fn each_own(
        &self,
        writer: &Writer,
        asker: &Asker,
        now: Now,
        mut visit: impl FnMut(KeyId, State, u64),
    ) {
        self.each_of(writer, &asker.subject, |held| {
            if !held.is_canary()
                && let Some(id) = KeyId::parse(&held.grant().credential)
            {
                visit(id, held.state(now), u64::from(held.grant().made_s));
            }
        });
    }
}

impl Writer {
    /// A credential of whoever asks. That somebody else has one with this id is nobody's business.
    fn owned(&self, asker: &Asker, id: KeyId) -> Result<Record, DirectoryFault> {
        let record = self.record(id)?;
        let is_own = record.described.subject == asker.subject && !record.described.canary;
        if is_own { Ok(record) } else { Err(DirectoryFault::Unknown(id)) }
    }
}

impl Reach {
    /// Whether a credential gives no more than this.
    fn covers(
        &self,
        new: &NewKey,
        may: impl Fn(&str) -> Vec<String>,
    ) -> Result<(), DirectoryFault> {
        let beyond = |what| Err(DirectoryFault::Beyond(what));
        if !new.scopes.iter().all(|scope| self.scopes.contains(scope)) {
            return beyond("a scope");
        }
        let held: Vec<String> = self.roles.iter().flat_map(|role| may(role)).collect();
        if !new.roles.iter().all(|role| self.roles.contains(role) || held.contains(role)) {
            return beyond("a role");
        }
        if new.tier.is_some() && new.tier != self.tier {
            return beyond("its tier");
        }
        let within = |network: &Network| self.networks.iter().any(|own| own.covers(network));
        let open = self.networks.is_empty();
        if !open && (new.networks.is_empty() || !new.networks.iter().all(within)) {
            return beyond("a network");
        }
        Ok(())
    }
}
