//! Advice on secrets that lie where too many could find them.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::config::rule::StateRule;
use crate::listen::settings::ListenerRule;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::mistake::{Mistake, Reading};
use crate::secret::reference::Reference;

/// Advises against a master key beside the store that it unlocks, once other machines reach the
/// gateway, and against private keys that every user of this machine may read.
pub(in crate::config) fn advise(
    listeners: &[ListenerRule],
    state: &StateRule,
    base: &Path,
    reading: &mut Reading<'_>,
) {
    let reachable = listeners.iter().flat_map(|rule| rule.bind.iter()).find(|address| {
        address.parse::<SocketAddr>().is_ok_and(|address| !address.ip().is_loopback())
    });
    if let Some(address) = reachable
        && lies_in(state.master_key.as_ref(), &base.join(&state.dir), base)
    {
        let says =
            format!("the master key lies in {}, beside the store that it unlocks", state.dir);
        let place = state.master_key.as_ref().map_or(&address.span, |key| &key.span);
        let mistake =
            Mistake::new(Code::MasterBesideStore, says).at(reading.source.place(place.clone()));
        let mistake = match state.master_key {
            Some(_) => mistake
                .also(reading.source.place(address.span.clone()), "other machines reach this"),
            None => mistake,
        };
        reading.mistakes.push(mistake.help(
            "keep it elsewhere: master_key = \"credential:NAME\", \"env:NAME\" or \"file:PATH\" under [state], and `portcullis secrets rekey --new` for a store that is there",
        ));
    }
    let keys = listeners.iter().filter_map(|rule| rule.tls.as_ref()?.key.as_ref());
    for (key, mode) in keys.filter_map(|key| Some((key, open_mode(&base.join(&key.value))?))) {
        let says =
            format!("the private key {} has mode {mode:04o}: every user may read it", key.value);
        reading.wrong(Code::OpenKey, &key.span, says, "run `chmod 600` on it");
    }
}

/// Whether the master key is a file in the state directory.
fn lies_in(master: Option<&At<Reference>>, state_dir: &Path, base: &Path) -> bool {
    let path = match master.map(|at| &at.value) {
        None => return true,
        Some(Reference::File(path)) => base.join(path),
        Some(Reference::Env(_) | Reference::Credential(_)) => return false,
    };
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let dir: PathBuf = path.parent().map(real).unwrap_or_default();
    dir == real(state_dir)
}

/// The mode of a file that all may read.
fn open_mode(path: &Path) -> Option<u32> {
    let mode = path.metadata().ok()?.permissions().mode() & 0o7777;
    (mode & 0o004 != 0).then_some(mode)
}
