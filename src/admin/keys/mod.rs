//! What operators do with credentials, by the admin API or, while no gateway runs, by the command.

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde_json::Value;

use crate::admin::answer::Failure;
use crate::authenticate::directory::Directory;
use crate::authenticate::directory::fault::DirectoryFault;
use crate::authenticate::management;
use crate::authenticate::management::call::Call;
use crate::clock::Now;

/// As [`management::perform`], with the failure as a sentence for the operator.
///
/// # Errors
/// As there.
pub fn perform(
    directory: &Directory,
    call: &Call,
    expire_after: Duration,
    now: Now,
) -> Result<Value, String> {
    management::perform(directory, call, expire_after, now).map_err(|fault| fault.to_string())
}

/// As [`perform`], with the failure as the admin API answers it.
///
/// # Errors
/// 404, 409 or 422 as the fault is the operator's, otherwise 500.
pub fn answer(
    directory: &Directory,
    call: &Call,
    expire_after: Duration,
    now: Now,
) -> Result<Value, Failure> {
    management::perform(directory, call, expire_after, now).map_err(|fault| {
        let says = fault.to_string();
        match fault {
            DirectoryFault::Unknown(_) | DirectoryFault::Nobody(_) => Failure::not_found(says),
            DirectoryFault::Invalid { .. }
            | DirectoryFault::TooOld { .. }
            | DirectoryFault::BadLine { .. } => Failure::unacceptable(says),
            DirectoryFault::Refused(_)
            | DirectoryFault::Beyond(_)
            | DirectoryFault::TooMany { .. }
            | DirectoryFault::Over(_)
            | DirectoryFault::Suspended(_)
            | DirectoryFault::AlreadyRotated { .. }
            | DirectoryFault::Full { .. } => Failure::conflict(says),
            DirectoryFault::WeakPepper { .. }
            | DirectoryFault::BadEnvironment(_)
            | DirectoryFault::Unreadable { .. }
            | DirectoryFault::Store(_) => {
                tracing::error!(%says, "the keys could not be changed");
                Failure::fault(says)
            }
        }
    })
}
