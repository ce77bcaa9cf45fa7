//! The sections of all policy files, read: every name once, every mistake collected.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::authenticate::certificate::CertificateRule;
use crate::authenticate::exposure::KeysRule;
use crate::authenticate::introspection::rule::IntrospectionRule;
use crate::authenticate::jwt::rule::JwtRule;
use crate::authenticate::signature::rule::SignatureRule;
use crate::authorize::vocabulary::VocabularyRule;
use crate::inspect::detect::rule::FilterRule;
use crate::limit::address::AddressRule;
use crate::limit::rule::LimitRule;
use crate::mistake::code::Code;
use crate::mistake::read::{self, Entry};
use crate::mistake::source::{At, Source};
use crate::mistake::{Mistake, Mistakes, suggest};
use crate::policy::case::CaseRule;
use crate::policy::rule::{DefaultsRule, PolicyFile, RouteRule};

/// A rule with its name, and the file that both stand in.
pub struct Named<T> {
    /// The name, at its place.
    pub name: At<String>,
    /// What is written under it.
    pub rule: T,
    /// The file.
    pub source: Arc<Source>,
}

/// A section that stands in one file, and the file.
pub struct Single<T> {
    /// What is written in it, at the place of its name.
    pub rule: At<T>,
    /// The file.
    pub source: Arc<Source>,
}

/// All sections of all files.
#[derive(Default)]
pub struct Sections {
    /// `name`
    pub name: Option<Single<String>>,
    /// `[roles]`, `[scopes]` and `[tiers]`, which stand in one file together.
    pub vocabulary: Option<Single<VocabularyRule>>,
    /// `[keys]`
    pub keys: Option<Single<KeysRule>>,
    /// `[address]`
    pub address: Option<Single<AddressRule>>,
    /// `[defaults]`
    pub defaults: Option<Single<DefaultsRule>>,
    /// `[limits.*]`
    pub limits: Vec<Named<LimitRule>>,
    /// `[filters.*]`
    pub filters: Vec<Named<FilterRule>>,
    /// `[signatures.*]`
    pub signatures: Vec<Named<SignatureRule>>,
    /// `[certificates.*]`
    pub certificates: Vec<Named<CertificateRule>>,
    /// `[jwt.*]`
    pub jwt: Vec<Named<JwtRule>>,
    /// `[introspection.*]`
    pub introspection: Vec<Named<IntrospectionRule>>,
    /// `[routes.*]`
    pub routes: Vec<Named<RouteRule>>,
    /// `[[test]]`
    pub cases: Vec<(CaseRule, Arc<Source>)>,
    version: Option<Single<u32>>,
}

impl Sections {
    /// Reads the files of a policy.
    pub fn read(sources: &[Arc<Source>], mistakes: &mut Mistakes) -> Self {
        let mut sections = Self::default();
        for source in sources {
            let entries = read::top(source, mistakes);
            if !mistakes.any_syntax_in(source) {
                for entry in entries {
                    sections.section(entry, source, mistakes);
                }
            }
        }
        if !sources.iter().any(|source| mistakes.any_syntax_in(source)) {
            sections.check_version(sources, mistakes);
        }
        sections
    }

    fn section(&mut self, entry: Entry<'_>, source: &Arc<Source>, mistakes: &mut Mistakes) {
        match entry.name.as_str() {
            "version" => single(&mut self.version, entry, source, mistakes),
            "name" => single(&mut self.name, entry, source, mistakes),
            "keys" => single(&mut self.keys, entry, source, mistakes),
            "address" => single(&mut self.address, entry, source, mistakes),
            "defaults" => single(&mut self.defaults, entry, source, mistakes),
            "roles" | "scopes" | "tiers" => self.vocabulary(entry, source, mistakes),
            "limits" => named(&mut self.limits, "a limit", entry, source, mistakes),
            "filters" => named(&mut self.filters, "a filter", entry, source, mistakes),
            "signatures" => named(&mut self.signatures, "a signature", entry, source, mistakes),
            "certificates" => {
                named(&mut self.certificates, "certificates", entry, source, mistakes);
            }
            "jwt" => named(&mut self.jwt, "a jwt", entry, source, mistakes),
            "introspection" => {
                named(&mut self.introspection, "an introspection", entry, source, mistakes);
            }
            "routes" => named(&mut self.routes, "a route", entry, source, mistakes),
            "test" => {
                for node in read::elements(entry, source, mistakes) {
                    let rule = read::rule("a test", node, source, mistakes);
                    self.cases.extend(rule.map(|rule| (rule, Arc::clone(source))));
                }
            }
            unknown => {
                let schema = read::schema_of::<PolicyFile>();
                let known = schema.get("properties").and_then(serde_json::Value::as_object);
                let known: Vec<&str> =
                    known.into_iter().flatten().map(|(key, _)| key.as_str()).collect();
                mistakes.push(
                    Mistake::new(
                        Code::UnknownKey,
                        format!("unknown section `{unknown}` in a policy"),
                    )
                    .at(source.place(entry.span))
                    .help(suggest(unknown, known)),
                );
            }
        }
    }

    /// Roles, scopes and tiers may stand in one file only: whoever reviews a right sees them all.
    fn vocabulary(&mut self, entry: Entry<'_>, source: &Arc<Source>, mistakes: &mut Mistakes) {
        let vocabulary = self.vocabulary.get_or_insert_with(|| Single {
            rule: At { value: VocabularyRule::default(), span: entry.span.clone() },
            source: Arc::clone(source),
        });
        if vocabulary.source != *source {
            mistakes.push(
                Mistake::new(
                    Code::DefinedTwice,
                    format!(
                        "`[{}]` stands in another file than the rest of the vocabulary",
                        entry.name
                    ),
                )
                .at(source.place(entry.span))
                .also(vocabulary.source.place(vocabulary.rule.span.clone()), "it begins here")
                .help("keep [roles], [scopes] and [tiers] in one file"),
            );
            return;
        }
        let rule = &mut vocabulary.rule.value;
        let section = entry.name.clone();
        for member in read::members(entry, source, mistakes) {
            let Entry { name, span, node } = member;
            match section.as_str() {
                "roles" => put(&mut rule.roles, "a role", (name, span), node, source, mistakes),
                "scopes" => put(&mut rule.scopes, "a scope", (name, span), node, source, mistakes),
                _ => put(&mut rule.tiers, "a tier", (name, span), node, source, mistakes),
            }
        }
    }

    fn check_version(&self, sources: &[Arc<Source>], mistakes: &mut Mistakes) {
        match (&self.version, sources.first()) {
            (Some(version), _) if version.rule.value == 1 => {}
            (Some(version), _) => mistakes.push(
                Mistake::new(
                    Code::WrongValue,
                    format!("version {} is not known", version.rule.value),
                )
                .at(version.source.place(version.rule.span.clone()))
                .help("this program reads version 1"),
            ),
            (None, Some(first)) => mistakes.push(
                Mistake::new(Code::MissingKey, "no file says `version`")
                    .at(first.place(0..0))
                    .help("write `version = 1` at the top of one file"),
            ),
            (None, None) => {}
        }
    }
}

/// Reads a section that may stand in one file only.
fn single<T: DeserializeOwned + JsonSchema + 'static>(
    slot: &mut Option<Single<T>>,
    entry: Entry<'_>,
    source: &Arc<Source>,
    mistakes: &mut Mistakes,
) {
    if let Some(first) = slot {
        mistakes.push(
            Mistake::new(Code::DefinedTwice, format!("`{}` is defined twice", entry.name))
                .at(source.place(entry.span))
                .also(first.source.place(first.rule.span.clone()), "first here")
                .help("policies never override each other; keep one of the two"),
        );
        return;
    }
    let what = format!("`{}`", entry.name);
    if let Some(value) = read::rule(&what, entry.node, source, mistakes) {
        *slot = Some(Single { rule: At { value, span: entry.span }, source: Arc::clone(source) });
    }
}

/// Reads the members of a section whose members have names.
fn named<T: DeserializeOwned + JsonSchema + 'static>(
    list: &mut Vec<Named<T>>,
    what: &str,
    entry: Entry<'_>,
    source: &Arc<Source>,
    mistakes: &mut Mistakes,
) {
    let section = entry.name.clone();
    let mut known: HashMap<String, usize> =
        list.iter().enumerate().map(|(at, known)| (known.name.value.clone(), at)).collect();
    for member in read::members(entry, source, mistakes) {
        let place = source.place(member.span.clone());
        if !is_name(&member.name) {
            mistakes.push(
                Mistake::new(Code::BadName, format!("`{}` cannot be a name", member.name))
                    .at(place)
                    .help("names are lower-case letters, digits and hyphens, begin with a letter, and have at most 63 of them"),
            );
            continue;
        }
        if let Some(first) = known.get(&member.name).and_then(|at| list.get(*at)) {
            mistakes.push(
                Mistake::new(
                    Code::DefinedTwice,
                    format!("{what} named `{}` is defined twice", member.name),
                )
                .at(place)
                .also(first.source.place(first.name.span.clone()), "first here")
                .help("policies never override each other; rename or remove one of the two"),
            );
            continue;
        }
        match read::rule(what, member.node, source, mistakes) {
            Some(rule) => {
                known.insert(member.name.clone(), list.len());
                let name = At { value: member.name, span: member.span };
                list.push(Named { name, rule, source: Arc::clone(source) });
            }
            None => mistakes.broke(format!("{section}.{}", member.name)),
        }
    }
}

fn put<T: DeserializeOwned + JsonSchema + 'static>(
    map: &mut BTreeMap<String, At<T>>,
    what: &str,
    (name, span): (String, Range<usize>),
    node: read::Node<'_>,
    source: &Arc<Source>,
    mistakes: &mut Mistakes,
) {
    if let Some(value) = read::rule(what, node, source, mistakes) {
        map.insert(name, At { value, span });
    }
}

/// Lower-case letters, digits and hyphens, beginning with a letter, at most 63.
pub fn is_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}
