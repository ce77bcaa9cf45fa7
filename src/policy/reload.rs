//! Watches the policy's files; swaps in the new policy whole, or keeps the old one.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::mistake::Mistakes;
use crate::policy::Policy;
use crate::policy::compile::{self, Ground};
use crate::policy::files::Files;

/// What became of a reload.
#[derive(Debug)]
pub enum Outcome {
    /// A new policy is in force; this is its hash.
    Applied(Arc<str>),
    /// The files are what they were; this is their hash.
    Unchanged(Arc<str>),
    /// The old policy stays in force. The text says everything that is wrong with the new one.
    Refused(String),
}

/// What must hold of new files before they are taken: the policy's own tests, run by whoever can.
pub type Proof = Box<dyn Fn(&Files) -> Result<(), String> + Send + Sync>;

/// Reads the policy directory again and again, and keeps what is in force.
pub struct Reloader {
    dir: PathBuf,
    ground: Ground,
    in_force: Arc<ArcSwap<Policy>>,
    proof: Option<Proof>,
    seen: Mutex<Seen>,
}

/// What the last looks at the directory saw.
struct Seen {
    /// The hash that was last taken or refused; there is nothing to do while it stays.
    settled: String,
    /// The hash of the look before; files are taken once two looks agree, so that nobody's
    /// half-written file is.
    before: String,
    /// Policies that were in force. Requests that began with one still hold it; it is taken apart
    /// here after the last of them, so that no worker has to, which takes long when it is large.
    retired: Vec<Arc<Policy>>,
}

impl Seen {
    /// Takes apart the policies that no request holds any more.
    fn forget_unused(&mut self) {
        self.retired.retain(|policy| Arc::strong_count(policy) > 1);
    }
}

impl Reloader {
    /// Watches `dir` on behalf of a policy in force that was compiled on the same ground.
    pub fn new(
        dir: PathBuf,
        ground: Ground,
        in_force: Arc<ArcSwap<Policy>>,
        proof: Option<Proof>,
    ) -> Self {
        let hash = in_force.load().hash().to_string();
        let seen = Mutex::new(Seen { settled: hash.clone(), before: hash, retired: Vec::new() });
        Self { dir, ground, in_force, proof, seen }
    }

    /// One look at the directory, called every second or so. Nothing when there is nothing new, or
    /// when what is new may still be in the middle of being written.
    pub fn poll(&self) -> Option<Outcome> {
        let files = Files::read(&self.dir, &mut Mistakes::default());
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let stable = seen.before == files.hash;
            seen.before.clone_from(&files.hash);
            seen.forget_unused();
            if !stable || seen.settled == files.hash {
                return None;
            }
        }
        Some(self.reload())
    }

    /// Reads, checks, tests and swaps in the policy, or says what is wrong with it.
    pub fn reload(&self) -> Outcome {
        // The lock makes reloads follow one another.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut mistakes = Mistakes::default();
        let files = Files::read(&self.dir, &mut mistakes);
        seen.settled.clone_from(&files.hash);
        let in_force = Arc::clone(self.in_force.load().hash());
        if *in_force == files.hash {
            return Outcome::Unchanged(in_force);
        }
        let policy = compile::compile(&files, &self.ground, &mut mistakes);
        let Some(policy) = policy.filter(|_| !mistakes.any_error()) else {
            mistakes.sort();
            let says: Vec<String> = mistakes
                .iter()
                .filter(|mistake| !mistake.is_advice())
                .map(|mistake| mistake.render(false))
                .collect();
            return Outcome::Refused(says.join("\n"));
        };
        let proof = self.proof.as_ref().filter(|_| !policy.cases().is_empty());
        if let Some(Err(failures)) = proof.map(|proof| proof(&files)) {
            return Outcome::Refused(failures);
        }
        let hash = Arc::clone(policy.hash());
        seen.forget_unused();
        seen.retired.push(self.in_force.swap(Arc::new(policy)));
        Outcome::Applied(hash)
    }
}
