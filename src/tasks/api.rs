//! The endpoints of the task service, and who may do what at each.

use std::cmp::Ordering;

use http::{Method, StatusCode};
use serde_json::{Map, Value};

use crate::clock::Now;
use crate::forward::identity::Identity;
use crate::tasks::answer::{Answer, Failure, created, json, nothing};
use crate::tasks::model::{Fields, Priority, Role, Status, Task, User, parse_date};
use crate::tasks::page::Query;
use crate::tasks::store::{Store, fresh_id};

/// One call of the API.
pub struct Call<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path.
    pub path: &'a str,
    /// The query, without `?`.
    pub query: &'a str,
    /// The whole body.
    pub body: &'a [u8],
    /// Who calls, on the gateway's word.
    pub caller: &'a Caller,
    /// When.
    pub now: Now,
}

/// Who calls: a user's id, and the most that the gateway's roles let them do.
pub struct Caller {
    id: String,
    role: Role,
}

impl Caller {
    /// The caller that a verified identity names; nobody when it has no role that is known here.
    pub fn of(identity: &Identity) -> Option<Self> {
        let role = identity.roles.iter().filter_map(|role| Role::parse(role)).max()?;
        Some(Self { id: identity.subject.as_deref()?.to_owned(), role })
    }

    /// A caller with this id and role.
    pub fn new(id: &str, role: Role) -> Self {
        Self { id: id.to_owned(), role }
    }

    fn at_least(&self, role: Role) -> Result<(), Failure> {
        if self.role < role {
            Err(Failure::forbidden("Your role does not allow this"))
        } else {
            Ok(())
        }
    }

    fn may_assign(&self, assignee: &str) -> bool {
        self.role >= Role::Manager || assignee == self.id
    }
}

/// Answers a call.
///
/// # Errors
/// A failure in the contract's terms.
pub fn answer(store: &mut Store, call: &Call<'_>) -> Result<Answer, Failure> {
    let mut segments = call.path.split('/').skip(1);
    let (version, kind, id, rest) =
        (segments.next(), segments.next(), segments.next(), segments.next());
    match (version, kind, id, rest, call.method.as_str()) {
        (Some("v1"), Some("tasks"), None, None, "GET" | "HEAD") => list_tasks(store, call),
        (Some("v1"), Some("tasks"), None, None, "POST") => create_task(store, call),
        (Some("v1"), Some("tasks"), Some(id), None, "GET" | "HEAD") => {
            Ok(json(StatusCode::OK, &task(store, id)?.json()))
        }
        (Some("v1"), Some("tasks"), Some(id), None, "PATCH") => update_task(store, id, call),
        (Some("v1"), Some("tasks"), Some(id), None, "DELETE") => {
            task(store, id)?;
            call.caller.at_least(Role::Manager)?;
            store.tasks.remove(id);
            Ok(nothing())
        }
        (Some("v1"), Some("users"), None, None, "GET" | "HEAD") => list_users(store, call),
        (Some("v1"), Some("users"), None, None, "POST") => create_user(store, call),
        (Some("v1"), Some("users"), Some(id), None, "GET" | "HEAD") => {
            Ok(json(StatusCode::OK, &user(store, id)?.json()))
        }
        (Some("v1"), Some("users"), Some(id), None, "PATCH") => update_user(store, id, call),
        (Some("v1"), Some("users"), Some(id), None, "DELETE") => {
            call.caller.at_least(Role::Admin)?;
            store.remove_user(id).map(|_| nothing()).ok_or_else(Failure::not_found)
        }
        (Some("v1"), Some("tasks" | "users"), _, None, _) => Err(Failure::method()),
        _ => Err(Failure::not_found()),
    }
}

fn task<'s>(store: &'s Store, id: &str) -> Result<&'s Task, Failure> {
    store.tasks.get(id).ok_or_else(Failure::not_found)
}

fn user<'s>(store: &'s Store, id: &str) -> Result<&'s User, Failure> {
    store.users.get(id).ok_or_else(Failure::not_found)
}

fn object(body: &[u8]) -> Result<Map<String, Value>, Failure> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) | Err(_) => Err(Failure::invalid("The body must be a JSON object")),
    }
}

fn list_tasks(store: &Store, call: &Call<'_>) -> Result<Answer, Failure> {
    let known =
        ["status", "priority", "tags", "assigneeId", "createdBy", "dueDate[lt]", "dueDate[gt]"];
    let query = Query::parse(call.query, &known)?;
    let bound = |name: &str| match query.get(name) {
        None => Ok(None),
        Some(text) => parse_date(text)
            .map(Some)
            .ok_or_else(|| Failure::invalid("dueDate is compared with an RFC 3339 date")),
    };
    let (before, after) = (bound("dueDate[lt]")?, bound("dueDate[gt]")?);
    let mut tasks: Vec<&Task> = store
        .tasks
        .values()
        .filter(|task| query.any("status", |word| word == task.status.text()))
        .filter(|task| query.any("priority", |word| word == task.priority.text()))
        .filter(|task| query.any("tags", |tag| task.tags.iter().any(|has| has == tag)))
        .filter(|task| {
            query.get("assigneeId").is_none_or(|id| task.assignee_id.as_deref() == Some(id))
        })
        .filter(|task| query.get("createdBy").is_none_or(|id| task.created_by == id))
        .filter(|task| before.is_none_or(|bound| task.due_date.is_some_and(|due| due < bound)))
        .filter(|task| after.is_none_or(|bound| task.due_date.is_some_and(|due| due > bound)))
        .collect();
    let (field, descending) = query.sort().unwrap_or(("createdAt", false));
    let compare: fn(&Task, &Task) -> Ordering = match field {
        "title" => |a, b| a.title.cmp(&b.title),
        "status" => |a, b| a.status.cmp(&b.status),
        "priority" => |a, b| a.priority.cmp(&b.priority),
        "dueDate" => |a, b| a.due_date.cmp(&b.due_date),
        "createdAt" => |a, b| a.created_at.cmp(&b.created_at),
        "updatedAt" => |a, b| a.updated_at.cmp(&b.updated_at),
        _ => return Err(Failure::invalid("There is no such field to sort by")),
    };
    tasks.sort_by(|a, b| if descending { compare(b, a) } else { compare(a, b) });
    let items: Vec<Value> = tasks.into_iter().map(Task::json).collect();
    query.page(call.path, &items)
}

fn create_task(store: &mut Store, call: &Call<'_>) -> Result<Answer, Failure> {
    let body = object(call.body)?;
    let mut fields = Fields::new(&body);
    let title = fields.title("title", "Title is required");
    if title.is_none() {
        fields.refuse("title", "Title is required");
    }
    let mut task = Task {
        id: fresh_id("task")?,
        title: title.unwrap_or_default(),
        description: None,
        status: Status::Todo,
        priority: Priority::Medium,
        created_by: call.caller.id.clone(),
        assignee_id: None,
        due_date: None,
        warning_offset: None,
        tags: Vec::new(),
        created_at: call.now.unix_ms,
        updated_at: call.now.unix_ms,
    };
    if let Some(status) = fields.word("status", Status::parse) {
        task.status = status;
    }
    change(&mut task, &mut fields, store, call)?;
    if !fields.wrong.is_empty() {
        return Err(Failure::fields(fields.wrong));
    }
    let answer = created(&format!("/v1/tasks/{}", task.id), &task.json());
    store.add_task(task)?;
    Ok(answer)
}

fn update_task(store: &mut Store, id: &str, call: &Call<'_>) -> Result<Answer, Failure> {
    let mut task = task(store, id)?.clone();
    let own =
        task.created_by == call.caller.id || task.assignee_id.as_deref() == Some(&call.caller.id);
    if !own {
        call.caller.at_least(Role::Manager)?;
    }
    let body = object(call.body)?;
    let mut fields = Fields::new(&body);
    if let Some(title) = fields.title("title", "Title is required") {
        task.title = title;
    }
    if let Some(next) = fields.word("status", Status::parse) {
        if next != task.status && !task.status.may_become(next) {
            let says = format!("Cannot move from {} to {}", task.status.text(), next.text());
            fields.refuse("status", &says);
        }
        task.status = next;
    }
    change(&mut task, &mut fields, store, call)?;
    if !fields.wrong.is_empty() {
        return Err(Failure::fields(fields.wrong));
    }
    task.updated_at = call.now.unix_ms;
    let answer = json(StatusCode::OK, &task.json());
    store.tasks.insert(id.to_owned(), task);
    Ok(answer)
}

/// The fields that creating and changing have in common.
fn change(
    task: &mut Task,
    fields: &mut Fields<'_>,
    store: &Store,
    call: &Call<'_>,
) -> Result<(), Failure> {
    if let Some(description) = fields.text("description") {
        task.description = description;
    }
    if let Some(priority) = fields.word("priority", Priority::parse) {
        task.priority = priority;
    }
    if let Some(assignee) = fields.text("assigneeId") {
        match &assignee {
            Some(id) if !store.users.contains_key(id) => {
                fields.refuse("assigneeId", "There is no such user")
            }
            Some(id) if !call.caller.may_assign(id) => {
                return Err(Failure::forbidden("Members assign tasks to themselves only"));
            }
            Some(_) | None => {}
        }
        task.assignee_id = assignee;
    }
    if let Some(due) = fields.future("dueDate", call.now.unix_ms) {
        task.due_date = due;
    }
    if let Some(hours) = fields.hours("warningOffset") {
        task.warning_offset = hours;
    }
    if task.warning_offset.is_some()
        && task.due_date.is_none()
        && !fields.wrong.contains_key("dueDate")
    {
        fields.refuse("warningOffset", "Needs a dueDate");
    }
    if let Some(tags) = fields.tags("tags") {
        task.tags = tags;
    }
    for field in ["id", "createdBy", "createdAt", "updatedAt"] {
        if fields.has(field) {
            fields.refuse(field, "Is set by the service");
        }
    }
    Ok(())
}

fn list_users(store: &Store, call: &Call<'_>) -> Result<Answer, Failure> {
    let query = Query::parse(call.query, &["role"])?;
    let mut users: Vec<&User> = store
        .users
        .values()
        .filter(|user| query.any("role", |word| word == user.role.text()))
        .collect();
    let (field, descending) = query.sort().unwrap_or(("createdAt", false));
    let compare: fn(&User, &User) -> Ordering = match field {
        "name" => |a, b| a.name.cmp(&b.name),
        "email" => |a, b| a.email.cmp(&b.email),
        "role" => |a, b| a.role.cmp(&b.role),
        "createdAt" => |a, b| a.created_at.cmp(&b.created_at),
        "updatedAt" => |a, b| a.updated_at.cmp(&b.updated_at),
        _ => return Err(Failure::invalid("There is no such field to sort by")),
    };
    users.sort_by(|a, b| if descending { compare(b, a) } else { compare(a, b) });
    let items: Vec<Value> = users.into_iter().map(User::json).collect();
    query.page(call.path, &items)
}

fn create_user(store: &mut Store, call: &Call<'_>) -> Result<Answer, Failure> {
    call.caller.at_least(Role::Admin)?;
    let body = object(call.body)?;
    let mut fields = Fields::new(&body);
    let now = call.now.unix_ms;
    let mut user = User {
        id: fresh_id("user")?,
        name: String::new(),
        email: String::new(),
        role: Role::Member,
        created_at: now,
        updated_at: now,
    };
    for (field, says) in [("name", "Name is required"), ("email", "Email is required")] {
        if !fields.has(field) {
            fields.refuse(field, says);
        }
    }
    change_user(&mut user, fields, store)?;
    let answer = created(&format!("/v1/users/{}", user.id), &user.json());
    store.add_user(user)?;
    Ok(answer)
}

fn update_user(store: &mut Store, id: &str, call: &Call<'_>) -> Result<Answer, Failure> {
    let mut user = user(store, id)?.clone();
    call.caller.at_least(Role::Admin)?;
    let body = object(call.body)?;
    change_user(&mut user, Fields::new(&body), store)?;
    user.updated_at = call.now.unix_ms;
    let answer = json(StatusCode::OK, &user.json());
    store.users.insert(id.to_owned(), user);
    Ok(answer)
}

fn change_user(user: &mut User, mut fields: Fields<'_>, store: &Store) -> Result<(), Failure> {
    if let Some(name) = fields.title("name", "Name is required") {
        user.name = name;
    }
    if let Some(email) = fields.title("email", "Email is required") {
        match email.split_once('@') {
            Some((local, host)) if !local.is_empty() && !host.is_empty() && !host.contains('@') => {
            }
            _ => fields.refuse("email", "Is not an e-mail address"),
        }
        user.email = email;
    }
    if let Some(role) = fields.word("role", Role::parse) {
        user.role = role;
    }
    for field in ["id", "createdAt", "updatedAt"] {
        if fields.has(field) {
            fields.refuse(field, "Is set by the service");
        }
    }
    if !fields.wrong.is_empty() {
        return Err(Failure::fields(fields.wrong));
    }
    if store.email_taken(&user.email, Some(&user.id)) {
        return Err(Failure::conflict("The e-mail address is taken"));
    }
    Ok(())
}
