//! What can be written after `keys`.

use crate::authenticate::signature::algorithm::Algorithm;
use crate::mistake::suggest;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::authenticate::management::call::{Filter, Template};
use crate::cli::Format;
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
    /// List keys; never their secrets
    #[command(
        after_help = "Examples:\n  portcullis keys list --rotating\n  portcullis keys list --expiring 14d --unused 30d --format json"
    )]
    List {
        /// Which.
        #[command(flatten)]
        only: Only,
        /// How to print.
        #[arg(long, default_value = "text")]
        format: Format,
    },
    /// Tell everything about a key, and how it was used
    #[command(
        after_help = "Examples:\n  portcullis keys show 7Fq2kT9x\n  portcullis keys show 7Fq2kT9x --format json"
    )]
    Show {
        /// The key's id.
        id: String,
        /// How to print.
        #[arg(long, default_value = "text")]
        format: Format,
    },
    /// Make a successor of a key; both work until the overlap is over
    #[command(
        after_help = "Examples:\n  portcullis keys rotate 7Fq2kT9x --overlap 24h\n  portcullis keys rotate --owner user_7 --out new.keys"
    )]
    Rotate {
        /// Which.
        #[command(flatten)]
        whose: Whose,
        /// How long the old key still works.
        #[arg(long, default_value = "24h")]
        overlap: Span,
        /// Write the key to a new file with mode 0600 instead of printing it.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Refuse a key until it is resumed
    #[command(
        after_help = "Examples:\n  portcullis keys suspend 7Fq2kT9x --why \"seen in a ticket\"\n  portcullis keys suspend --owner user_7"
    )]
    Suspend {
        /// Which.
        #[command(flatten)]
        whose: Whose,
        /// Why, for those who look at it later.
        #[arg(long, default_value = "")]
        why: String,
    },
    /// Let a suspended key work again
    #[command(
        after_help = "Examples:\n  portcullis keys resume 7Fq2kT9x\n  portcullis keys resume --owner user_7"
    )]
    Resume {
        /// Which.
        #[command(flatten)]
        whose: Whose,
    },
    /// End a key at once
    #[command(
        after_help = "Examples:\n  portcullis keys revoke 7Fq2kT9x\n  portcullis keys revoke --yes --owner user_7"
    )]
    Revoke {
        /// Which.
        #[command(flatten)]
        whose: Whose,
        /// Do not ask, on a terminal.
        #[arg(long)]
        yes: bool,
    },
    /// Find keys of ours in files, folders, diffs and logs; exit 1 when one of them works
    #[command(
        after_help = "Examples:\n  git log -p --all | portcullis keys scan -\n  portcullis keys scan --suspend src/ deploy/ app.log"
    )]
    Scan {
        /// Files and folders; - for standard input.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Suspend those that work.
        #[arg(long)]
        suspend: bool,
        /// How to print.
        #[arg(long, default_value = "text")]
        format: Format,
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

/// A key, or all of an owner.
#[derive(Clone, Debug, Args)]
pub struct Whose {
    /// The key's id.
    #[arg(required_unless_present = "owner", conflicts_with = "owner")]
    pub id: Option<String>,
    /// All keys of this subject instead, signing secrets too.
    #[arg(long, value_name = "SUBJECT")]
    pub owner: Option<String>,
}

/// Which keys are listed.
#[derive(Clone, Debug, Args)]
pub struct Only {
    /// Only keys of this subject.
    #[arg(long, value_name = "SUBJECT")]
    owner: Option<String>,
    /// Only old keys that still work beside their successors.
    #[arg(long)]
    rotating: bool,
    /// Only keys that are older than `max_age` of gateway.toml allows.
    #[arg(long)]
    overdue: bool,
    /// Only keys that work, and end within this time.
    #[arg(long, value_name = "TIME")]
    expiring: Option<Span>,
    /// Only keys that work, and were not used for this time.
    #[arg(long, value_name = "TIME")]
    unused: Option<Span>,
}

impl From<Only> for Filter {
    fn from(only: Only) -> Self {
        let Only { owner, rotating, overdue, expiring, unused } = only;
        Self {
            owner,
            rotating,
            overdue,
            expiring_in_s: expiring.map(|span| span.0.as_secs()),
            unused_for_s: unused.map(|span| span.0.as_secs()),
        }
    }
}

/// What a key gives to whoever shows it.
#[derive(Clone, Debug, Args)]
pub struct Facts {
    /// A name, for lists and records.
    #[arg(long)]
    name: String,
    /// The subject: the user or service who owns it. Default: the name.
    #[arg(long, visible_alias = "owner")]
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
    /// When it begins to work: 2026-12-01 or 2026-12-01T08:00:00Z. Default: at once.
    #[arg(long, value_name = "TIME")]
    not_before: Option<String>,
    /// A network it may be shown from; may be repeated. Default: any.
    #[arg(long = "from", value_name = "NETWORK")]
    networks: Vec<Network>,
    /// The environment it is for; default: the gateway's own. Any other gateway refuses it.
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,
    /// A trap: nobody must use it. Whoever does raises an alarm and is banned.
    #[arg(long)]
    canary: bool,
    /// A note.
    #[arg(long, default_value = "")]
    note: String,
}

impl From<Facts> for Template {
    fn from(facts: Facts) -> Self {
        let Facts { name, sub, roles, scopes, tier, expires, .. } = facts;
        let Facts { not_before, networks, environment, canary, note, .. } = facts;
        Self {
            subject: sub.unwrap_or_else(|| name.clone()),
            name,
            roles,
            scopes,
            tier,
            expires_in_s: expires.map(|span| span.0.as_secs()),
            not_before,
            networks: networks.iter().map(ToString::to_string).collect(),
            environment,
            canary,
            note,
        }
    }
}

fn algorithm(name: &str) -> Result<Algorithm, String> {
    Algorithm::by_name(name)
        .ok_or_else(|| suggest(name, Algorithm::ALL.map(Algorithm::name).into_iter().skip(1)))
}
