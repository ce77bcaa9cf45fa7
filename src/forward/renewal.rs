//! What an upstream is proved by, and what proves us to it, when that changes while we run.

use crate::forward::credential::Credential;
use crate::forward::identity::Signer;
use crate::forward::tls::Tls;
use crate::forward::upstream::Upstream;

impl Upstream {
    /// A target answered 401 to what proves us.
    pub(in crate::forward) fn doubt_credential(&self) {
        if let Some(oauth) = self.credential().and_then(Credential::oauth) {
            oauth.doubt();
        }
    }

    /// When our own certificate towards the targets expires, in Unix seconds, where there is one.
    pub fn certificate_not_after_s(&self) -> Option<u64> {
        self.settings.tls.as_ref().and_then(Tls::not_after_s)
    }

    /// Reads the files again that TLS and credentials are made of, and tells of each thing that
    /// changed, or could not: `tls`, `credential` or `identity`. It waits for the disk.
    pub fn reload_if_changed(&self, mut tell: impl FnMut(&'static str, Result<(), String>)) {
        if let Some(tls) = &self.settings.tls {
            match tls.reload_if_changed() {
                Ok(false) => {}
                Ok(true) => {
                    // What was proved by the old files is not asked any further.
                    self.targets.iter().for_each(|target| target.retire_connections());
                    tell("tls", Ok(()));
                }
                Err(says) => tell("tls", Err(says)),
            }
        }
        let credential = self.credential().map(Credential::reload_if_changed);
        let identity = self.identity_signer().map(Signer::reload_if_changed);
        for (what, done) in [("credential", credential), ("identity", identity)] {
            match done {
                None | Some(Ok(false)) => {}
                Some(Ok(true)) => tell(what, Ok(())),
                Some(Err(says)) => tell(what, Err(says)),
            }
        }
    }
}
