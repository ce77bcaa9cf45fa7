//! The roles, scopes and tiers that a policy defines, and what each role includes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::authenticate::certificate;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::mistake::{Reading, suggest};
use crate::name::{Name, Names};

/// A role, as `[roles]` has it: `manager = { summary = "Team leads", includes = ["member"] }`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleRule {
    /// What the role is for, in one line.
    pub summary: String,
    /// Roles whose doors this role opens too. None by default.
    #[serde(default)]
    pub includes: Vec<At<String>>,
}

/// A tier, as `[tiers]` has it: `pro = { summary = "Paying key" }`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TierRule {
    /// Who is in the tier, in one line.
    pub summary: String,
}

/// All names of a policy, as written. The place of each is where its name stands.
#[derive(Debug, Clone, Default)]
pub struct VocabularyRule {
    /// `[roles]`
    pub roles: BTreeMap<String, At<RoleRule>>,
    /// `[scopes]`: name and summary.
    pub scopes: BTreeMap<String, At<String>>,
    /// `[tiers]`
    pub tiers: BTreeMap<String, At<TierRule>>,
}

/// The roles, scopes and tiers that a policy defines.
#[derive(Debug, Default)]
pub struct Vocabulary {
    /// Each role with all that it includes, itself among them.
    roles: BTreeMap<&'static str, Role>,
    scopes: BTreeMap<&'static str, Box<str>>,
    tiers: BTreeMap<&'static str, Box<str>>,
}

#[derive(Debug)]
struct Role {
    summary: Box<str>,
    closure: Names,
}

impl Vocabulary {
    /// Compiles the names of a policy. Reports names that cannot be one, roles that include what
    /// is no role, and roles that include themselves by a detour.
    ///
    /// There is a vocabulary even when there are mistakes, so that the doors and limits of a policy
    /// that will be refused are checked against it all the same.
    pub fn compile(rule: &VocabularyRule, reading: &mut Reading<'_>) -> Self {
        let strict = rule.roles.iter().map(|(name, at)| (name, &at.span));
        for (name, span) in strict.chain(rule.tiers.iter().map(|(name, at)| (name, &at.span))) {
            if !is_plain(name) {
                let says = format!("`{name}` cannot be a name");
                let help =
                    "names are lower-case letters, digits and hyphens, and begin with a letter";
                reading.wrong(Code::BadName, span, says, help);
            }
        }
        for (name, at) in rule.scopes.iter().filter(|(name, _)| !is_scope(name)) {
            let says = format!("`{name}` cannot be a scope");
            let help = "scopes are visible ASCII without spaces, quotes and backslashes (RFC 6750)";
            reading.wrong(Code::BadName, &at.span, says, help);
        }
        for role in rule.roles.values() {
            for included in role.includes.iter().filter(|name| !rule.roles.contains_key(&***name)) {
                let says = format!("role `{}` is not defined", included.value);
                let help = suggest(included, rule.roles.keys().map(String::as_str));
                reading.wrong(Code::Undefined, &included.span, says, help);
            }
        }
        report_cycles(rule, reading);
        Self {
            roles: rule.roles.iter().map(|(name, role)| compiled(name, role, rule)).collect(),
            scopes: summaries(rule.scopes.iter().map(|(name, at)| (name, &at.value))),
            tiers: summaries(rule.tiers.iter().map(|(name, at)| (name, &at.value.summary))),
        }
    }

    /// Every role that opens a door which asks for `role`: those that include it, and itself.
    pub fn holders(&self, role: Name) -> Names {
        self.roles
            .iter()
            .filter(|(_, held)| held.closure.contains(role))
            .map(|(name, _)| *name)
            .collect()
    }

    /// Everything that `role` includes, itself among it; nothing for what is no role.
    pub fn closure(&self, role: Name) -> Names {
        self.roles.get(role.text()).map(|role| role.closure.clone()).unwrap_or_default()
    }

    /// The roles, in alphabetical order, each with its summary.
    pub fn roles(&self) -> impl Iterator<Item = (&'static str, &str)> + Clone {
        self.roles.iter().map(|(name, role)| (*name, &*role.summary))
    }

    /// The scopes, in alphabetical order, each with its summary.
    pub fn scopes(&self) -> impl Iterator<Item = (&'static str, &str)> + Clone {
        self.scopes.iter().map(|(name, summary)| (*name, &**summary))
    }

    /// The tiers, in alphabetical order, each with its summary.
    pub fn tiers(&self) -> impl Iterator<Item = (&'static str, &str)> + Clone {
        self.tiers.iter().map(|(name, summary)| (*name, &**summary))
    }

    /// The role with this name, or a mistake with what was probably meant.
    pub fn role(&self, written: &At<String>, reading: &mut Reading<'_>) -> Option<Name> {
        defined("role", written, self.roles.keys().copied(), reading)
    }

    /// The scope with this name, or a mistake with what was probably meant.
    pub fn scope(&self, written: &At<String>, reading: &mut Reading<'_>) -> Option<Name> {
        defined("scope", written, self.scopes.keys().copied(), reading)
    }

    /// The tier with this name, or a mistake with what was probably meant.
    pub fn tier(&self, written: &At<String>, reading: &mut Reading<'_>) -> Option<Name> {
        defined("tier", written, self.tiers.keys().copied(), reading)
    }
}

impl certificate::Vocabulary for Vocabulary {
    fn role(&self, written: &At<String>, reading: &mut Reading<'_>) -> Option<Name> {
        self.role(written, reading)
    }

    fn scope(&self, written: &At<String>, reading: &mut Reading<'_>) -> Option<Name> {
        self.scope(written, reading)
    }

    fn tier(&self, written: &At<String>, reading: &mut Reading<'_>) -> Option<Name> {
        self.tier(written, reading)
    }
}

fn defined(
    kind: &str,
    written: &At<String>,
    known: impl Iterator<Item = &'static str> + Clone,
    reading: &mut Reading<'_>,
) -> Option<Name> {
    if known.clone().any(|name| name == written.value) {
        return Some(Name::new(written));
    }
    let says = format!("{kind} `{}` is not defined", written.value);
    reading.wrong(Code::Undefined, &written.span, says, suggest(written, known));
    None
}

fn compiled(name: &str, role: &At<RoleRule>, rule: &VocabularyRule) -> (&'static str, Role) {
    let closure = reached(name, rule).into_iter().collect();
    (Name::new(name).text(), Role { summary: role.summary.as_str().into(), closure })
}

fn summaries<'a>(
    names: impl Iterator<Item = (&'a String, &'a String)>,
) -> BTreeMap<&'static str, Box<str>> {
    names.map(|(name, summary)| (Name::new(name).text(), summary.as_str().into())).collect()
}

/// All roles that can be reached from one, itself first. Ends for cycles too.
fn reached<'a>(start: &'a str, rule: &'a VocabularyRule) -> Vec<&'a str> {
    let mut seen = vec![start];
    let mut next = 0;
    while let Some(role) = seen.get(next).copied() {
        next += 1;
        for included in rule.roles.get(role).into_iter().flat_map(|role| &role.includes) {
            if !seen.contains(&included.as_str()) {
                seen.push(included);
            }
        }
    }
    seen
}

/// Reports each inclusion that leads back to where it starts.
fn report_cycles(rule: &VocabularyRule, reading: &mut Reading<'_>) {
    for (name, role) in &rule.roles {
        for included in &role.includes {
            if reached(included, rule).contains(&name.as_str()) {
                let says = format!("role `{name}` includes itself through `{}`", included.value);
                let help =
                    "remove one of the inclusions; two roles that include each other are one";
                reading.wrong(Code::WrongValue, &included.span, says, help);
            }
        }
    }
}

/// Lower-case letters, digits and hyphens, beginning with a letter.
fn is_plain(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// A `scope-token` of RFC 6749, section 3.3, because 403 may have to name it in a header.
fn is_scope(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}
