//! What the service holds at its start: a small team in the middle of its work.

use crate::clock::Now;
use crate::tasks::model::{Priority, Role, Status, Task, User};
use crate::tasks::store::Store;

/// The seeded administrator, whom the first API key belongs to.
pub const FIRST_USER: &str = "user_1";

const HOUR_MS: u64 = 3_600_000;

type UserRow = (&'static str, &'static str, &'static str, Role);
type TaskRow = (&'static str, &'static str, Status, Priority, (u8, u8), u64, &'static str);

const USERS: [UserRow; 6] = [
    ("user_1", "Grace Okafor", "grace@example.com", Role::Admin),
    ("user_2", "Tomás Herrera", "tomas@example.com", Role::Manager),
    ("user_3", "Ingrid Larsen", "ingrid@example.com", Role::Manager),
    ("user_4", "Bao Nguyen", "bao@example.com", Role::Member),
    ("user_5", "Siobhan O'Brien", "siobhan@example.com", Role::Member),
    ("user_6", "Kenji Watanabe", "kenji@example.com", Role::Member),
];

/// Title, description, status, priority, (creator, assignee), hours until due, tags.
const TASKS: [TaskRow; 12] = [
    (
        "Write the on-call runbook",
        "One page per alert: what it means, where to look, what to do.",
        Status::InProgress,
        Priority::High,
        (2, 4),
        72,
        "docs,operations",
    ),
    (
        "Rotate the staging API keys",
        "The old ones expire at the end of the month.",
        Status::Todo,
        Priority::Urgent,
        (1, 5),
        24,
        "security",
    ),
    (
        "Upgrade the database to the next minor version",
        "Take a snapshot first; the window is Sunday, 06:00 UTC.",
        Status::Review,
        Priority::High,
        (3, 6),
        120,
        "database,operations",
    ),
    (
        "Review the invoice export",
        "Rows with a comma in the customer's name are cut in two.",
        Status::Todo,
        Priority::Medium,
        (2, 4),
        200,
        "billing,bug",
    ),
    (
        "Plan the autumn release",
        "Collect what is done, what slips, and who tells the customers.",
        Status::InProgress,
        Priority::Medium,
        (3, 2),
        240,
        "planning",
    ),
    (
        "Answer the accessibility audit",
        "Fourteen findings, three of them serious.",
        Status::Todo,
        Priority::High,
        (3, 5),
        160,
        "frontend",
    ),
    (
        "Measure the cold start of the search service",
        "It takes 40 s after a deploy; find out where they go.",
        Status::Done,
        Priority::Low,
        (2, 6),
        0,
        "performance",
    ),
    (
        "Replace the flaky login test",
        "It waits for a fixed two seconds.",
        Status::Review,
        Priority::Low,
        (5, 5),
        90,
        "tests",
    ),
    (
        "Order badges for the new colleagues",
        "",
        Status::Canceled,
        Priority::Low,
        (1, 0),
        0,
        "office",
    ),
    (
        "Draft the data retention policy",
        "Legal wants to see it before the board meets.",
        Status::Todo,
        Priority::Medium,
        (1, 3),
        400,
        "legal,security",
    ),
    (
        "Translate the welcome mail",
        "French, Polish and Portuguese.",
        Status::InProgress,
        Priority::Low,
        (4, 4),
        300,
        "copy",
    ),
    (
        "Clean up unused feature flags",
        "Everything that was switched on for everybody before June.",
        Status::Todo,
        Priority::Low,
        (6, 6),
        500,
        "code,cleanup",
    ),
];

/// A store with the seeded users and tasks, as of now.
pub fn store(now: Now) -> Store {
    let mut store = Store::default();
    let since = now.unix_ms.saturating_sub(240 * HOUR_MS);
    for (id, name, email, role) in USERS {
        let (name, email) = (name.to_owned(), email.to_owned());
        let user =
            User { id: id.to_owned(), name, email, role, created_at: since, updated_at: since };
        store.users.insert(id.to_owned(), user);
    }
    for (number, row) in (1_u64..).zip(TASKS) {
        let (title, description, status, priority, (creator, assignee), hours, tags) = row;
        let created_at = since + number * HOUR_MS;
        let task = Task {
            id: format!("task_{number}"),
            title: title.to_owned(),
            description: (!description.is_empty()).then(|| description.to_owned()),
            status,
            priority,
            created_by: format!("user_{creator}"),
            assignee_id: (assignee > 0).then(|| format!("user_{assignee}")),
            due_date: (hours > 0).then(|| now.unix_ms + hours * HOUR_MS),
            warning_offset: (hours > 100).then_some(24.0),
            tags: tags.split(',').map(str::to_owned).collect(),
            created_at,
            updated_at: created_at + HOUR_MS,
        };
        store.tasks.insert(task.id.clone(), task);
    }
    store
}
