//! From policy files to a policy, or to the list of everything that is wrong in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::authenticate::directory::Directory;
use crate::authenticate::exposure::{KeysRule, Watch};
use crate::authenticate::nonce::Nonces;
use crate::authenticate::outside::Outside;
use crate::authorize::vocabulary::Vocabulary;
use crate::clock::Clock;
use crate::forward::upstream::Upstreams;
use crate::inspect::Parts;
use crate::inspect::detect::rule::FilterRule;
use crate::limit::address::{AddressBudgets, AddressRule};
use crate::limit::buckets::Buckets;
use crate::mistake::source::Source;
use crate::mistake::{Mistakes, Reading};
use crate::policy::Policy;
use crate::policy::beside;
use crate::policy::case::{Case, CaseRule};
use crate::policy::files::Files;
use crate::policy::rule::DefaultsRule;
use crate::policy::sections::{Named, Sections, Single};
use crate::policy::unused;
use crate::policy::weaker;
use crate::policy::workshop::{Workshop, whole};
use crate::record::Record;
use crate::route::table::Table;

/// What a policy is compiled upon: the process's own things, which outlive every policy.
#[derive(Clone)]
pub struct Ground {
    /// The upstreams of `gateway.toml`.
    pub upstreams: Arc<Upstreams>,
    /// All credentials.
    pub directory: Arc<Directory>,
    /// Nonces that were seen.
    pub nonces: Arc<Nonces>,
    /// The keys of issuers, what was revoked, and how secrets are found.
    pub outside: Outside,
    /// Token buckets; they survive a new policy.
    pub buckets: Arc<Buckets>,
    /// Where requests are counted.
    pub record: Arc<Record>,
    /// Where time comes from, for dates that must lie ahead.
    pub clock: Clock,
}

/// Compiles the files of a policy. Nothing is made when any mistake must be mended; all are reported.
pub fn compile(files: &Files, ground: &Ground, mistakes: &mut Mistakes) -> Option<Policy> {
    let before = mistakes.count().0;
    let sections = Sections::read(&files.sources, mistakes);
    let first = files.sources.first()?;
    // Half of a policy is full of names that seem to be defined nowhere.
    if files.sources.iter().any(|source| mistakes.any_syntax_in(source)) {
        return None;
    }
    let Sections {
        name,
        vocabulary,
        keys,
        address,
        defaults,
        limits,
        filters,
        signatures,
        certificates,
        jwt,
        introspection,
        routes,
        cases,
        ..
    } = sections;
    unused::report(&limits, &filters, (&routes, defaults.as_ref()), mistakes);
    let vocabulary = compiled_vocabulary(vocabulary, first, mistakes);
    let keys = compiled_keys(keys, ground, first, mistakes);
    let address = compiled_address(address, ground, first, mistakes);
    let defaults = defaults.unwrap_or_else(|| Single {
        rule: whole(DefaultsRule::default()),
        source: Arc::clone(first),
    });
    let name: Arc<str> = name.map_or_else(|| "policy".into(), |name| name.rule.value.into());

    let mut shop = workshop(ground, files, &name, (&vocabulary, &defaults));
    shop.limits(&limits, mistakes);
    shop.filters(&filters, mistakes);
    shop.schemes(&signatures, mistakes);
    shop.certificates(&certificates, mistakes);
    shop.tokens((&jwt, &introspection), &routes, mistakes);
    shop.default_parts(mistakes);
    let unmatched = shop.unmatched(mistakes);
    let written = routes;
    let (routes, shapes) = shop.routes(&written, mistakes);
    weaker::report(&written, &routes, (&defaults.rule, unmatched.as_ref()), mistakes);
    beside::report(&written, &routes, mistakes);
    let table = Table::compile(shapes, mistakes);
    let doors = routes.iter().flat_map(|route| route.doors.watching());
    let watching = filters.iter().filter_map(watching).chain(doors).collect();
    let (signatures, verifiers) = (shop.signatures, shop.verifiers);
    let introspectors = shop.introspectors;
    let cases = compiled_cases(&cases, &vocabulary, mistakes);
    if mistakes.count().0 > before {
        return None;
    }
    Some(Policy {
        name,
        hash: files.hash.as_str().into(),
        table,
        routes,
        unmatched: unmatched?,
        keys: keys?,
        address: address?,
        cases,
        vocabulary,
        signatures,
        watching,
        verifiers,
        introspectors,
    })
}

/// A workshop with nothing made yet.
fn workshop<'a>(
    ground: &'a Ground,
    files: &'a Files,
    name: &Arc<str>,
    (vocabulary, defaults): (&'a Vocabulary, &'a Single<DefaultsRule>),
) -> Workshop<'a> {
    Workshop {
        ground,
        files,
        realm: Arc::clone(name),
        vocabulary,
        defaults,
        limits: BTreeMap::new(),
        filters: BTreeMap::new(),
        schemes: BTreeMap::new(),
        signatures: BTreeMap::new(),
        verifiers: Vec::new(),
        introspectors: Vec::new(),
        parts: Parts::default(),
    }
}

/// A filter that only watches, with the end of that in Unix seconds.
fn watching(filter: &Named<FilterRule>) -> Option<(Box<str>, u64)> {
    let until_s = filter.rule.observes_until_s()?;
    Some((format!("filters.{}", filter.name.value).into(), until_s))
}

fn compiled_vocabulary(
    written: Option<Single<crate::authorize::vocabulary::VocabularyRule>>,
    first: &Arc<Source>,
    mistakes: &mut Mistakes,
) -> Vocabulary {
    let (rule, source) =
        written.map_or_else(Default::default, |single| (single.rule.value, Some(single.source)));
    Vocabulary::compile(&rule, &mut Reading { source: source.as_ref().unwrap_or(first), mistakes })
}

fn compiled_cases(
    written: &[(CaseRule, Arc<Source>)],
    vocabulary: &Vocabulary,
    mistakes: &mut Mistakes,
) -> Vec<Case> {
    let compiled = written.iter().filter_map(|(rule, source)| {
        Case::compile(rule, vocabulary, &mut Reading { source, mistakes })
    });
    compiled.collect()
}

fn compiled_keys(
    written: Option<Single<KeysRule>>,
    ground: &Ground,
    first: &Arc<Source>,
    mistakes: &mut Mistakes,
) -> Option<Watch> {
    let (rule, source) = match written {
        Some(single) => (single.rule.value, single.source),
        None => (KeysRule::default(), Arc::clone(first)),
    };
    Watch::compile(&rule, &ground.directory, &mut Reading { source: &source, mistakes })
}

fn compiled_address(
    written: Option<Single<AddressRule>>,
    ground: &Ground,
    first: &Arc<Source>,
    mistakes: &mut Mistakes,
) -> Option<AddressBudgets> {
    let (rule, source) = match written {
        Some(single) => (single.rule, single.source),
        None => (whole(AddressRule::default()), Arc::clone(first)),
    };
    AddressBudgets::compile(&rule, &ground.buckets, &mut Reading { source: &source, mistakes })
}
