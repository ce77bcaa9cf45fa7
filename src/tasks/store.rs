//! Tasks and users in memory, bounded.

use std::collections::BTreeMap;

use crate::secret::fill_random;
use crate::tasks::answer::Failure;
use crate::tasks::model::{Task, User};

/// Tasks held at most.
const TASKS_MAX: usize = 10_000;
/// Users held at most.
const USERS_MAX: usize = 1_000;

/// All tasks and users.
#[derive(Debug, Default)]
pub struct Store {
    /// Tasks by id.
    pub tasks: BTreeMap<String, Task>,
    /// Users by id.
    pub users: BTreeMap<String, User>,
}

impl Store {
    /// Takes in a new task.
    ///
    /// # Errors
    /// 409 when there are as many as the service holds.
    pub fn add_task(&mut self, task: Task) -> Result<(), Failure> {
        if self.tasks.len() >= TASKS_MAX {
            return Err(Failure::conflict("The service holds as many tasks as it can"));
        }
        self.tasks.insert(task.id.clone(), task);
        Ok(())
    }

    /// Takes in a new user.
    ///
    /// # Errors
    /// 409 when there are as many as the service holds.
    pub fn add_user(&mut self, user: User) -> Result<(), Failure> {
        if self.users.len() >= USERS_MAX {
            return Err(Failure::conflict("The service holds as many users as it can"));
        }
        self.users.insert(user.id.clone(), user);
        Ok(())
    }

    /// Whether another user than `except` has this address. Addresses differ by more than case.
    pub fn email_taken(&self, email: &str, except: Option<&str>) -> bool {
        self.users
            .values()
            .any(|user| user.email.eq_ignore_ascii_case(email) && Some(user.id.as_str()) != except)
    }

    /// Takes a user out, and off the tasks that were theirs to do.
    pub fn remove_user(&mut self, id: &str) -> Option<User> {
        let user = self.users.remove(id)?;
        for task in self.tasks.values_mut().filter(|task| task.assignee_id.as_deref() == Some(id)) {
            task.assignee_id = None;
        }
        Some(user)
    }
}

/// A fresh id such as `task_9f86d081884c7d65`.
///
/// # Errors
/// 409 when the system has no randomness, which it would have said at start.
pub fn fresh_id(kind: &str) -> Result<String, Failure> {
    let mut bytes = [0; 8];
    fill_random(&mut bytes).map_err(|_| Failure::conflict("No id can be made"))?;
    Ok(format!("{kind}_{:016x}", u64::from_be_bytes(bytes)))
}
