//! `keys`: the whole life of credentials, from their making to their end, and the search for leaked ones.
//!
//! The embedded store has one owner. While a gateway runs it is the gateway, and the command asks it
//! through the admin listener; otherwise the command opens the store itself.

pub mod options;
mod reach;
mod scan;
mod show;

use std::io::{IsTerminal, Read};
use std::path::Path;

use serde_json::Value;
use zeroize::Zeroizing;

use crate::authenticate::management::call::{Call, Template};
use crate::authenticate::signature::algorithm::Algorithm;
use crate::authenticate::signature::public_key::PublicKey;
use crate::cli::exit::{Exit, print, say};
use crate::cli::keys::options::{Command, Whose};
use crate::cli::keys::reach::Keeper;
use crate::cli::{Ended, Format, Globals};
use crate::config::development::write_made;

/// Does it.
pub fn run(globals: &Globals, command: Command) -> Ended {
    match command {
        Command::Create {
            template, public_key: Some(file), algorithm: Some(algorithm), ..
        } => take(globals, template.into(), algorithm, &file),
        Command::Create { template, signing, out, .. } => {
            let make = Call::Create { template: template.into(), signing, public_key: None };
            hand_over(globals, &make, out.as_deref())
        }
        Command::List { only, format } => {
            let keys = call(globals, &Call::List(only.into()))?;
            match format {
                Format::Json => print(&keys.to_string()),
                Format::Text => show::list(&keys),
            }
            Ok(Exit::Fine)
        }
        Command::Show { id, format } => {
            let key = call(globals, &Call::Show { id })?;
            match format {
                Format::Json => print(&key.to_string()),
                Format::Text => show::one(&key),
            }
            Ok(Exit::Fine)
        }
        Command::Rotate { whose: Whose { id, owner }, overlap, out } => {
            let rotate = Call::Rotate { id, owner, overlap_s: overlap.0.as_secs() };
            hand_over(globals, &rotate, out.as_deref())
        }
        Command::Suspend { whose, why } => {
            let Whose { id, owner } = whose.clone();
            let told = call(globals, &Call::Suspend { id, owner, why })?;
            Ok(tell(&told, "suspended", &whose))
        }
        Command::Resume { whose } => {
            let Whose { id, owner } = whose.clone();
            let told = call(globals, &Call::Resume { id, owner })?;
            Ok(tell(&told, "resumed", &whose))
        }
        Command::Revoke { whose, yes } => {
            if !yes && !confirmed(&whose) {
                return Err(Exit::CouldNot("nothing was revoked".to_owned()));
            }
            let Whose { id, owner } = whose.clone();
            let told = call(globals, &Call::Revoke { id, owner })?;
            Ok(tell(&told, "revoked", &whose))
        }
        Command::Scan { paths, suspend, format } => {
            scan::run(&Keeper::reach(globals)?, &paths, suspend, format)
        }
        Command::Import { template, file } => {
            let keys = lines(&file)?;
            let answer = call(globals, &Call::Import { template: template.into(), keys })?;
            let imported = answer.get("imported").and_then(Value::as_u64).unwrap_or_default();
            print(&format!("{imported} keys imported"));
            Ok(Exit::Fine)
        }
    }
}

fn call(globals: &Globals, call: &Call) -> Result<Value, Exit> {
    Keeper::reach(globals)?.call(call)
}

/// Takes the public key of somebody who signs.
fn take(globals: &Globals, template: Template, algorithm: Algorithm, file: &Path) -> Ended {
    let key = PublicKey::read(algorithm, &read(file)?).map_err(|fault| {
        let (file, algorithm) = (file.display(), algorithm.name());
        Exit::CouldNot(format!("{file} is no {algorithm} key: {fault}"))
    })?;
    let made = call(globals, &Call::Create { template, signing: true, public_key: Some(key) })?;
    print(text(&made, "id"));
    say(&format!("its holder signs with this keyid   expires {}", text(&made, "expires")));
    Ok(Exit::Fine)
}

/// Makes keys and prints them, or writes them to a file that only its owner can read.
fn hand_over(globals: &Globals, make: &Call, out: Option<&Path>) -> Ended {
    let keeper = Keeper::reach(globals)?;
    let make = || keeper.call(make);
    let made = match out {
        Some(path) => {
            let made = write_made(path, make, |made| Zeroizing::new(secrets(made).into_bytes()))?;
            say(&format!("written to {} (0600)", path.display()));
            made
        }
        None => {
            let made = make()?;
            print(secrets(&made).trim_end());
            say("shown once; it is not kept anywhere");
            made
        }
    };
    match made.get("rotated").and_then(Value::as_array) {
        Some(rotated) => say(&format!("{} keys rotated: old id, new id, new key", rotated.len())),
        None => say(&format!("id {}   expires {}", text(&made, "id"), text(&made, "expires"))),
    }
    Ok(Exit::Fine)
}

/// The key that was made, on a line; or of many, each on a line with the id of the one that it
/// replaces and its own.
fn secrets(made: &Value) -> String {
    let Some(rotated) = made.get("rotated").and_then(Value::as_array) else {
        return format!("{}\n", text(made, "secret"));
    };
    let line = |made: &Value| {
        format!("{} {} {}\n", text(made, "replaces"), text(made, "id"), text(made, "secret"))
    };
    rotated.iter().map(line).collect()
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Prints which keys were changed. One that was named is so now, whether by this or before; unless
/// it could not be suspended.
fn tell(told: &Value, done: &str, whose: &Whose) -> Exit {
    let changed = match told.get(done) {
        Some(Value::Array(ids)) => ids.as_slice(),
        Some(id) => std::slice::from_ref(id),
        None => &[],
    };
    for id in changed.iter().filter_map(Value::as_str) {
        print(&format!("{id} is {done}"));
    }
    if changed.is_empty() {
        let whom = whose.id.as_ref().or(whose.owner.as_ref()).map_or("", String::as_str);
        print(&format!("nothing to change: no key of `{whom}` could be {done}, or all were"));
    }
    Exit::Fine
}

fn lines(file: &Path) -> Result<Vec<String>, Exit> {
    let text = read(file)?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// The text of a file, or of standard input for `-`.
fn read(file: &Path) -> Result<String, Exit> {
    let wrong = |error: std::io::Error| {
        Exit::CouldNot(format!("{} cannot be read: {error}", file.display()))
    };
    let mut text = String::new();
    if file.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).map_err(wrong)?;
    } else {
        text = std::fs::read_to_string(file).map_err(wrong)?;
    }
    Ok(text)
}

/// Asks on a terminal; elsewhere the command itself is the confirmation.
fn confirmed(whose: &Whose) -> bool {
    if !std::io::stdin().is_terminal() {
        return true;
    }
    let what = match whose {
        Whose { id: Some(id), .. } => id.clone(),
        Whose { owner, .. } => format!("all keys of {}", owner.as_deref().unwrap_or_default()),
    };
    say(&format!("Revoke {what}? Its callers are refused from the next request on. [y/N]"));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok() && answer.trim().eq_ignore_ascii_case("y")
}
