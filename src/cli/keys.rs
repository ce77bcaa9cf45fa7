//! `keys`: creates, lists, rotates, revokes and imports credentials.
//!
//! The embedded store has one owner. While a gateway runs it is the gateway, and the command asks it
//! through the admin listener; otherwise the command opens the store itself.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::admin::keys::{Call, Template, perform};
use crate::authenticate::signature::algorithm::Algorithm;
use crate::authenticate::signature::public_key::PublicKey;
use crate::cli::admin::Admin;
use crate::cli::check::stopped;
use crate::cli::exit::{Exit, print, say};
use crate::cli::keyring::open_directory;
use crate::cli::{Ended, Format, Globals, first_run};
use crate::clock::Clock;
use crate::config::development::write_made;
use crate::config::{Config, FirstRun};
use crate::mistake::{Mistakes, suggest};
use crate::units::{Network, Span};

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a key and print it, once
    #[command(
        after_help = "Examples:\n  portcullis keys create --name ci-exporter --role member --scope tasks:read --tier free --expires 90d\n  portcullis keys create --name partner --sub user_7 --role member --signing --out partner.secret\n  portcullis keys create --name bank --sub bank --signing --algorithm ed25519 --public-key bank.pem"
    )]
    Create {
        /// What it gives.
        #[command(flatten)]
        template: Facts,
        /// Make a secret that signs requests (RFC 9421) instead of a key that is sent with them.
        #[arg(long)]
        signing: bool,
        /// With --signing: the public key of a partner who shares no secret, as PEM, JWK or base64.
        #[arg(long, value_name = "FILE", requires_all = ["signing", "algorithm"], conflicts_with = "out")]
        public_key: Option<PathBuf>,
        /// The algorithm of the public key: ed25519, ecdsa-p256-sha256, rsa-pss-sha512 or
        /// rsa-v1_5-sha256.
        #[arg(long, value_name = "NAME", requires = "public_key", value_parser = algorithm)]
        algorithm: Option<Algorithm>,
        /// Write the key to a new file with mode 0600 instead of printing it.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// List all keys; never their secrets
    #[command(
        after_help = "Examples:\n  portcullis keys list\n  portcullis keys list --format json"
    )]
    List {
        /// How to print.
        #[arg(long, default_value = "text")]
        format: Format,
    },
    /// Make a successor of a key; both work until the overlap is over
    #[command(
        after_help = "Examples:\n  portcullis keys rotate 7Fq2kT9x --overlap 24h\n  portcullis keys rotate 7Fq2kT9x --out new.key"
    )]
    Rotate {
        /// The key's id.
        id: String,
        /// How long the old key still works.
        #[arg(long, default_value = "24h")]
        overlap: Span,
        /// Write the key to a new file with mode 0600 instead of printing it.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// End a key at once
    #[command(
        after_help = "Examples:\n  portcullis keys revoke 7Fq2kT9x\n  portcullis keys revoke --yes 7Fq2kT9x"
    )]
    Revoke {
        /// The key's id.
        id: String,
        /// Do not ask, on a terminal.
        #[arg(long)]
        yes: bool,
    },
    /// Take over keys that clients already hold; they are hashed at once
    #[command(
        after_help = "Examples:\n  portcullis keys import --name legacy --role member --scope tasks:read old-keys.txt\n  cut -f2 dump.tsv | portcullis keys import --name legacy -"
    )]
    Import {
        /// What it gives.
        #[command(flatten)]
        template: Facts,
        /// A file with one key a line, or - for standard input.
        file: PathBuf,
    },
}

/// What a key gives to whoever shows it.
#[derive(Clone, Debug, Args)]
pub struct Facts {
    /// A name, for lists and records.
    #[arg(long)]
    name: String,
    /// The subject: the user or service who owns it. Default: the name.
    #[arg(long)]
    sub: Option<String>,
    /// A role; may be repeated.
    #[arg(long = "role")]
    roles: Vec<String>,
    /// A scope; may be repeated.
    #[arg(long = "scope")]
    scopes: Vec<String>,
    /// The tier.
    #[arg(long)]
    tier: Option<String>,
    /// How long it lives; default: `expire_after` of gateway.toml.
    #[arg(long)]
    expires: Option<Span>,
    /// A network it may be shown from; may be repeated. Default: any.
    #[arg(long = "from", value_name = "NETWORK")]
    networks: Vec<Network>,
    /// A note.
    #[arg(long, default_value = "")]
    note: String,
}

impl From<Facts> for Template {
    fn from(facts: Facts) -> Self {
        let Facts { name, sub, roles, scopes, tier, expires, networks, note } = facts;
        Self {
            subject: sub.unwrap_or_else(|| name.clone()),
            name,
            roles,
            scopes,
            tier,
            expires_in_s: expires.map(|span| span.0.as_secs()),
            networks: networks.iter().map(ToString::to_string).collect(),
            note,
        }
    }
}

/// Does it.
pub fn run(globals: &Globals, command: Command) -> Ended {
    match command {
        Command::Create {
            template, public_key: Some(file), algorithm: Some(algorithm), ..
        } => {
            let text = read(&file)?;
            let key = PublicKey::read(algorithm, &text).map_err(|fault| {
                Exit::CouldNot(format!(
                    "{} is no {} key: {fault}",
                    file.display(),
                    algorithm.name()
                ))
            })?;
            let template = template.into();
            let make = Call::Create { template, signing: true, public_key: Some(key) };
            let made = call(globals, &make)?;
            print(text_of(&made, "id"));
            say(&format!(
                "its holder signs with this keyid   expires {}",
                text_of(&made, "expires")
            ));
            Ok(Exit::Fine)
        }
        Command::Create { template, signing, out, .. } => {
            let make = Call::Create { template: template.into(), signing, public_key: None };
            hand_over(globals, &make, out.as_deref())
        }
        Command::List { format } => {
            let keys = call(globals, &Call::List)?;
            list(&keys, format);
            Ok(Exit::Fine)
        }
        Command::Rotate { id, overlap, out } => {
            let rotate = Call::Rotate { id, overlap_s: overlap.0.as_secs() };
            hand_over(globals, &rotate, out.as_deref())
        }
        Command::Revoke { id, yes } => {
            if !yes && !confirmed(&id) {
                return Err(Exit::CouldNot("nothing was revoked".to_owned()));
            }
            call(globals, &Call::Revoke { id: id.clone() })?;
            print(&format!("{id} is revoked"));
            Ok(Exit::Fine)
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

/// Asks the running gateway, or does it on the store when none runs. A gateway that was named with
/// `--admin` is asked and nobody else.
fn call(globals: &Globals, call: &Call) -> Result<Value, Exit> {
    let clock = Clock::system();
    let mut mistakes = Mistakes::default();
    let config = Config::read(&globals.config, FirstRun::Assume, clock.now(), &mut mistakes);
    if globals.admin.is_some() {
        return ask(&Admin::of(globals, config.as_ref())?, call);
    }
    let Some(config) = config else { return Err(stopped(&mut mistakes, globals)) };
    let bound = config.admin.is_some_and(|address| Admin::at(address).is_there());
    if bound {
        return ask(&Admin::of(globals, Some(&config))?, call);
    }
    let now = clock.now();
    first_run::prepare(&config).map_err(Exit::CouldNot)?;
    let (directory, _) = open_directory(&config).map_err(Exit::CouldNot)?;
    perform(&directory, call, config.expire_after, now).map_err(Exit::CouldNot)
}

fn ask(admin: &Admin, call: &Call) -> Result<Value, Exit> {
    let body = serde_json::to_value(call).map_err(|error| Exit::CouldNot(error.to_string()))?;
    admin.call(Method::POST, "/v1/keys", Some(&body))
}

/// Makes a key and prints it, or writes it to a file that only its owner can read.
fn hand_over(globals: &Globals, make: &Call, out: Option<&Path>) -> Ended {
    let make = || call(globals, make);
    let made = match out {
        Some(path) => {
            let line = |made: &Value| format!("{}\n", text_of(made, "secret")).into_bytes();
            let made = write_made(path, make, |made| Zeroizing::new(line(made)))?;
            say(&format!("written to {} (0600)", path.display()));
            made
        }
        None => {
            let made = make()?;
            print(text_of(&made, "secret"));
            say("shown once; it is not kept anywhere");
            made
        }
    };
    say(&format!("id {}   expires {}", text_of(&made, "id"), text_of(&made, "expires")));
    Ok(Exit::Fine)
}

fn text_of<'v>(made: &'v Value, key: &str) -> &'v str {
    made.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn list(keys: &Value, format: Format) {
    if format == Format::Json {
        print(&keys.to_string());
        return;
    }
    let text = |key: &Value, name: &str| match key.get(name) {
        Some(Value::String(text)) if !text.is_empty() => text.clone(),
        Some(Value::Array(items)) => {
            items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
        }
        _ => "-".to_owned(),
    };
    const COLUMNS: [(&str, &str); 8] = [
        ("ID", "id"),
        ("KIND", "kind"),
        ("NAME", "name"),
        ("SUBJECT", "subject"),
        ("ROLES", "roles"),
        ("TIER", "tier"),
        ("EXPIRES", "expires"),
        ("STATE", "state"),
    ];
    let mut rows = vec![COLUMNS.map(|(title, _)| title.to_owned())];
    rows.extend(
        keys.as_array().into_iter().flatten().map(|key| COLUMNS.map(|(_, name)| text(key, name))),
    );
    crate::cli::exit::table(&rows);
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

fn algorithm(name: &str) -> Result<Algorithm, String> {
    Algorithm::by_name(name)
        .ok_or_else(|| suggest(name, Algorithm::ALL.map(Algorithm::name).into_iter().skip(1)))
}

/// Asks on a terminal; elsewhere the command itself is the confirmation.
fn confirmed(id: &str) -> bool {
    use std::io::IsTerminal;
    if !std::io::stdin().is_terminal() {
        return true;
    }
    say(&format!("Revoke {id}? Its callers are refused from the next request on. [y/N]"));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok() && answer.trim().eq_ignore_ascii_case("y")
}
