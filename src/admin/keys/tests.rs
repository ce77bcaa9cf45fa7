//! Protects what operators are told of keys, and that what is wrong changes nothing.

use serde_json::json;

use super::*;
use crate::authenticate::directory::change::millis;
use crate::clock::Clock;
use crate::secret::Secret;

const YEAR: Duration = Duration::from_secs(365 * 86_400);

fn directory() -> Directory {
    Directory::in_memory(&Secret::random(32).unwrap(), "live").unwrap()
}

fn now() -> Now {
    Clock::set_at(1_764_000_000_000).0.now()
}

/// Calls as programs do, with JSON.
fn call(directory: &Directory, json: Value, now: Now) -> Result<Value, String> {
    perform(directory, &serde_json::from_value(json).unwrap(), YEAR, now)
}

fn template() -> Value {
    json!({ "name": "ci", "subject": "u-7", "roles": ["member"], "scopes": ["tasks:read"], "networks": ["10.0.0.0/8"] })
}

#[test]
fn a_key_is_made_listed_rotated_and_revoked() {
    let (directory, now) = (directory(), now());
    let made = call(&directory, json!({ "do": "create", "template": template() }), now).unwrap();
    let (id, secret) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    assert_eq!(made["expires"], "2026-11-24T16:00:00Z");
    assert_eq!(directory.id_of(secret).unwrap().as_str(), id);

    let later = Now { unix_ms: now.unix_ms + 86_400_000, ..now };
    let rotate = json!({ "do": "rotate", "id": id, "overlap_s": 3600 });
    let successor = call(&directory, rotate, later).unwrap();
    assert_eq!(successor["expires"], "2026-11-25T16:00:00Z");
    call(&directory, json!({ "do": "revoke", "id": successor["id"] }), later).unwrap();

    let list = call(&directory, json!({ "do": "list" }), later).unwrap();
    let state_of = |id: &Value| {
        let key = list.as_array().unwrap().iter().find(|key| key["id"] == *id).unwrap();
        key["state"].clone()
    };
    assert_eq!(state_of(&made["id"]), "rotating");
    assert_eq!(state_of(&successor["id"]), "revoked");
    for made in [&made, &successor] {
        assert!(!list.to_string().contains(made["secret"].as_str().unwrap()));
    }
}

#[test]
fn the_list_is_sorted_by_id_over_all_kinds() {
    let (directory, now) = (directory(), now());
    for count in 0..12 {
        let make = json!({ "do": "create", "template": template(), "signing": count % 2 == 0 });
        call(&directory, make, now).unwrap();
    }
    let keys = json!(["an-old-key-0123456789", "another-old-key-012345"]);
    let import = json!({ "do": "import", "template": template(), "keys": keys });
    assert_eq!(call(&directory, import, now).unwrap(), json!({ "imported": 2 }));
    let list = call(&directory, json!({ "do": "list" }), now).unwrap();
    let ids: Vec<&str> =
        list.as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 14);
    assert!(ids.is_sorted(), "{ids:?}");
    assert!(!list.to_string().contains("old-key"));
    let kinds =
        |kind: &str| list.as_array().unwrap().iter().filter(|key| key["kind"] == kind).count();
    assert_eq!((kinds("api-key"), kinds("signing"), kinds("imported")), (6, 6, 2));
}

#[test]
fn what_is_wrong_is_said_and_changes_nothing() {
    let (directory, now) = (directory(), now());
    let with = |key: &str, value: Value| {
        let mut template = template();
        template[key] = value;
        json!({ "do": "create", "template": template })
    };
    for (wrong, status, says) in [
        (with("networks", json!(["10.0.0.1/8"])), 422, "`networks`"),
        (with("name", json!("")), 422, "`name`"),
        (with("expires_in_s", json!(0)), 422, "`expires_ms`"),
        (json!({ "do": "revoke", "id": "nope" }), 422, "`id`"),
        (json!({ "do": "revoke", "id": "AAAAAAAA" }), 404, "no key `AAAAAAAA`"),
        (json!({ "do": "import", "template": template(), "keys": ["short"] }), 422, "line 1"),
    ] {
        let call: Call = serde_json::from_value(wrong).unwrap();
        let failure = answer(&directory, &call, YEAR, now).unwrap_err();
        assert_eq!(failure.status().as_u16(), status, "{failure:?}");
        assert!(failure.message().contains(says), "{failure:?}");
    }
    assert_eq!(call(&directory, json!({ "do": "list" }), now).unwrap(), json!([]));
}

#[test]
fn a_call_that_is_misspelt_is_not_guessed_at() {
    for wrong in [
        json!({ "do": "remove", "id": "AAAAAAAA" }),
        json!({ "do": "revoke", "id": "AAAAAAAA", "yes": true }),
        json!({ "do": "create", "template": { "name": "a", "subject": "b", "role": ["admin"] } }),
    ] {
        assert!(serde_json::from_value::<Call>(wrong.clone()).is_err(), "{wrong}");
    }
}

#[test]
fn a_list_is_narrowed_by_all_that_is_asked() {
    let now = now();
    let days = |days: u64| Duration::from_secs(days * 86_400);
    let max_ages = std::collections::HashMap::from([("live".to_owned(), days(400))]);
    let directory = directory().limited(max_ages);
    let make = |subject: &str, expires: Duration| {
        let mut template = template();
        template["subject"] = subject.into();
        template["expires_in_s"] = expires.as_secs().into();
        let made = call(&directory, json!({ "do": "create", "template": template }), now).unwrap();
        made["id"].as_str().unwrap().to_owned()
    };
    let (soon, late, other) = (make("a", days(10)), make("a", days(400)), make("b", days(400)));
    let rotate = json!({ "do": "rotate", "id": other, "overlap_s": 86_400 * 400 });
    call(&directory, rotate, now).unwrap();
    let listed = |filter: Value, after: Duration| {
        let mut list = json!({ "do": "list" });
        list.as_object_mut().unwrap().extend(filter.as_object().unwrap().clone());
        let now = Now { unix_ms: now.unix_ms + millis(after), ..now };
        let list = call(&directory, list, now).unwrap();
        let ids = list.as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap().to_owned());
        ids.collect::<std::collections::BTreeSet<_>>()
    };
    let set = |ids: &[&String]| ids.iter().map(|id| (*id).clone()).collect();
    assert_eq!(listed(json!({ "owner": "a" }), days(0)), set(&[&soon, &late]));
    assert_eq!(listed(json!({ "rotating": true }), days(0)), set(&[&other]));
    assert_eq!(listed(json!({ "expiring_in_s": 86_400 * 14 }), days(0)), set(&[&soon]));
    assert_eq!(listed(json!({ "expiring_in_s": 86_400 * 14 }), days(11)), set(&[]), "it is over");
    assert_eq!(
        listed(json!({ "owner": "a", "unused_for_s": 86_400 * 30 }), days(31)),
        set(&[&late])
    );
    assert_eq!(listed(json!({ "overdue": true }), days(399)), set(&[]));
    let tightened = std::collections::HashMap::from([("live".to_owned(), days(30))]);
    let directory = directory.limited(tightened);
    let later = Now { unix_ms: now.unix_ms + millis(days(31)), ..now };
    let overdue = call(&directory, json!({ "do": "list", "overdue": true }), later).unwrap();
    let overdue: Vec<&Value> = overdue.as_array().unwrap().iter().collect();
    assert_eq!(overdue.len(), 3, "{overdue:?}");
    assert!(overdue.iter().all(|key| key["overdue"] == true && key["id"] != soon.as_str()));
}

#[test]
fn a_change_is_about_one_key_or_about_one_owner() {
    let (directory, now) = (directory(), now());
    for what in ["rotate", "suspend", "resume", "revoke"] {
        for mut wrong in [json!({}), json!({ "id": "AAAAAAAA", "owner": "u-7" })] {
            wrong["do"] = what.into();
            if what == "rotate" {
                wrong["overlap_s"] = 60.into();
            }
            let says = call(&directory, wrong, now).unwrap_err();
            assert!(says.contains("`owner` must be given, and not both"), "{what}: {says}");
        }
    }
}

#[test]
fn what_was_found_is_told_without_being_repeated() {
    let (directory, now) = (directory(), now());
    let made = call(&directory, json!({ "do": "create", "template": template() }), now).unwrap();
    let secret = made["secret"].as_str().unwrap();
    let keys = json!([secret, "somebody-elses-key-0123456789"]);
    let told = call(&directory, json!({ "do": "identify", "keys": keys }), now).unwrap();
    assert_eq!(told[0]["id"], made["id"]);
    assert_eq!((&told[0]["live"], &told[1]), (&json!(true), &json!({ "state": "unknown" })));
    assert!(!told.to_string().contains(&secret[17..]));
}
