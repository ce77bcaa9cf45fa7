//! From policy files to a policy, or to the list of everything that is wrong in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::authenticate::api_key::ApiKeyScheme;
use crate::authenticate::directory::Directory;
use crate::authenticate::nonce::Nonces;
use crate::authenticate::{AuthRule, Authenticate, Scheme};
use crate::authorize::vocabulary::Vocabulary;
use crate::authorize::{Doors, Frame};
use crate::clock::Clock;
use crate::forward::upstream::{Upstream, Upstreams};
use crate::inspect::detect::Filter;
use crate::inspect::field::Examine;
use crate::inspect::{Filters, InspectRule};
use crate::limit::Budgets;
use crate::limit::address::{AddressBudgets, AddressRule};
use crate::limit::buckets::Buckets;
use crate::limit::rule::Limit;
use crate::mistake::code::Code;
use crate::mistake::source::{At, Origin, Source};
use crate::mistake::{Mistakes, Reading, suggest};
use crate::policy::case::Case;
use crate::policy::files::Files;
use crate::policy::route::Route;
use crate::policy::rule::{DefaultsRule, RouteRule};
use crate::policy::sections::{Named, Sections, Single};
use crate::policy::{Policy, Unmatched};
use crate::record::metrics::Metrics;
use crate::respond::headers::{ResponseRule, Rules};
use crate::route::pattern::Pattern;
use crate::route::rewrite::Rewrite;
use crate::route::host::HostPattern;
use crate::route::table::{Shape, Table};

/// What a policy is compiled upon: the process's own things, which outlive every policy.
#[derive(Clone)]
pub struct Ground {
    /// The upstreams of `gateway.toml`.
    pub upstreams: Arc<Upstreams>,
    /// All credentials.
    pub directory: Arc<Directory>,
    /// Nonces that were seen.
    pub nonces: Arc<Nonces>,
    /// Token buckets; they survive a new policy.
    pub buckets: Arc<Buckets>,
    /// Where requests are counted.
    pub metrics: Arc<Metrics>,
    /// Where time comes from, for dates that must lie ahead.
    pub clock: Clock,
}

/// Compiles the files of a policy. Nothing is made when any mistake must be mended; all are reported.
pub fn compile(files: &Files, ground: &Ground, mistakes: &mut Mistakes) -> Option<Policy> {
    let before = mistakes.count().0;
    let sections = Sections::read(&files.sources, mistakes);
    let first = files.sources.first()?;
    let Sections { name, vocabulary, address, defaults, limits, filters, signatures, routes, cases, .. } = sections;
    let vocabulary = compiled_vocabulary(vocabulary, first, mistakes).unwrap_or_default();
    let address = compiled_address(address, ground, first, mistakes);
    let defaults = defaults.unwrap_or_else(|| Single { rule: whole(DefaultsRule::default()), source: Arc::clone(first) });
    let name: Arc<str> = name.map_or_else(|| "policy".into(), |name| name.rule.value.into());

    let mut shop = Workshop {
        ground,
        files,
        realm: Arc::clone(&name),
        vocabulary: &vocabulary,
        defaults: &defaults,
        limits: BTreeMap::new(),
        filters: BTreeMap::new(),
        schemes: BTreeMap::new(),
    };
    shop.limits(&limits, mistakes);
    shop.filters(&filters, mistakes);
    shop.schemes(&signatures, mistakes);
    let unmatched = shop.unmatched(mistakes);
    let mut made = Vec::new();
    let mut shapes = Vec::new();
    for named in &routes {
        let number = made.len();
        let reading = &mut Reading { source: &named.source, mistakes };
        if let Some((route, shape)) = shop.route(number, named, reading) {
            made.push(route);
            shapes.push(shape);
        }
    }
    let table = Table::compile(shapes, mistakes);
    let cases = cases
        .iter()
        .filter_map(|(rule, source)| Case::compile(rule, &mut Reading { source, mistakes }))
        .collect();
    if mistakes.count().0 > before {
        return None;
    }
    Some(Policy {
        name,
        hash: files.hash.as_str().into(),
        table,
        routes: made,
        unmatched: unmatched?,
        address: address?,
        cases,
        vocabulary,
    })
}

fn whole<T>(value: T) -> At<T> {
    At { value, span: 0..0 }
}

fn compiled_vocabulary(
    written: Option<Single<crate::authorize::vocabulary::VocabularyRule>>,
    first: &Arc<Source>,
    mistakes: &mut Mistakes,
) -> Option<Vocabulary> {
    let (rule, source) = written.map_or_else(Default::default, |single| (single.rule.value, Some(single.source)));
    Vocabulary::compile(&rule, &mut Reading { source: source.as_ref().unwrap_or(first), mistakes })
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

/// What routes are made with: everything that they may name.
struct Workshop<'a> {
    ground: &'a Ground,
    files: &'a Files,
    realm: Arc<str>,
    vocabulary: &'a Vocabulary,
    defaults: &'a Single<DefaultsRule>,
    limits: BTreeMap<String, Arc<Limit>>,
    filters: BTreeMap<String, Arc<dyn Examine>>,
    schemes: BTreeMap<String, Arc<dyn Scheme>>,
}

impl Workshop<'_> {
    fn limits(&mut self, written: &[Named<crate::limit::rule::LimitRule>], mistakes: &mut Mistakes) {
        for Named { name, rule, source } in written {
            let limit = Limit::compile(name, rule, self.vocabulary, &mut Reading { source, mistakes });
            self.limits.extend(limit.map(|limit| (name.value.clone(), Arc::new(limit))));
        }
    }

    fn filters(&mut self, written: &[Named<crate::inspect::detect::FilterRule>], mistakes: &mut Mistakes) {
        let now = self.ground.clock.now();
        for Named { name, rule, source } in written {
            let mut reading = Reading { source, mistakes };
            let origin = reading.origin(format!("filters.{}", name.value), &name.span);
            if let Some(filter) = Filter::compile(rule, &origin, now, &mut reading) {
                self.filters.insert(name.value.clone(), Arc::new(filter));
            }
        }
    }

    fn schemes(&mut self, written: &[Named<crate::authenticate::signature::rule::SignatureRule>], mistakes: &mut Mistakes) {
        let directory = &self.ground.directory;
        self.schemes.insert("api-key".to_owned(), Arc::new(ApiKeyScheme::new(Arc::clone(directory))));
        for Named { name, rule, source } in written {
            let mut reading = Reading { source, mistakes };
            let keys = Arc::clone(directory) as Arc<dyn crate::authenticate::SigningKeys>;
            let nonces = Arc::clone(&self.ground.nonces);
            if let Some(scheme) = rule.compile(&name.value, &name.span, (keys, nonces), &mut reading) {
                self.schemes.insert(format!("signature.{}", name.value), Arc::new(scheme));
            }
        }
    }

    /// A value as the route has it, or else as the defaults have it, with the file it stands in.
    fn either<'v, T>(
        &'v self,
        own: &'v Option<T>,
        source: &'v Arc<Source>,
        default: &'v Option<T>,
    ) -> Option<(&'v T, &'v Arc<Source>)> {
        own.as_ref().map(|value| (value, source)).or_else(|| default.as_ref().map(|value| (value, &self.defaults.source)))
    }

    fn authenticate(&self, own: &Option<At<AuthRule>>, source: &Arc<Source>, mistakes: &mut Mistakes) -> Option<Authenticate> {
        match self.either(own, source, &self.defaults.rule.auth) {
            Some((rule, source)) => {
                Authenticate::compile(rule, &self.schemes, &self.realm, &mut Reading { source, mistakes })
            }
            // Nothing said means the safe thing.
            None => {
                let rule = whole(AuthRule::api_key());
                Authenticate::compile(&rule, &self.schemes, &self.realm, &mut Reading { source, mistakes })
            }
        }
    }

    fn unmatched(&self, mistakes: &mut Mistakes) -> Option<Unmatched> {
        let source = &self.defaults.source;
        let authenticate = self.authenticate(&None, source, mistakes)?;
        let rules = self.response(&None, source, mistakes);
        Some(Unmatched { authenticate, rules, meters: self.ground.metrics.route("unmatched") })
    }

    fn response(&self, own: &Option<At<ResponseRule>>, source: &Arc<Source>, mistakes: &mut Mistakes) -> Rules {
        let style = self.defaults.rule.limit_headers;
        match self.either(own, source, &self.defaults.rule.response) {
            Some((rule, source)) => Rules::compile(rule, style, &mut Reading { source, mistakes }),
            None => Rules::compile(&ResponseRule::default(), style, &mut Reading { source, mistakes }),
        }
    }

    /// One route, and its shape for the table. Every rule is compiled whatever becomes of the
    /// others, so that all mistakes are found.
    fn route(&self, number: usize, named: &Named<RouteRule>, reading: &mut Reading<'_>) -> Option<(Route, Shape)> {
        let Named { name, rule, source } = named;
        let origin = reading.origin(format!("routes.{}", name.value), &name.span);
        let pattern = Pattern::compile(&rule.pattern, reading);
        let rewrite = match (&rule.rewrite, &pattern) {
            (Some(template), Some(pattern)) => Some(Rewrite::compile(template, pattern, reading)),
            (Some(_) | None, _) => None,
        };
        let upstream = self.upstream(&rule.upstream, reading);
        let authenticate = self.authenticate(&rule.auth, source, reading.mistakes);
        let doors = self.doors(rule, authenticate.as_ref(), pattern.as_ref(), &origin, reading);
        let budgets = self.budgets(rule, name, source, reading.mistakes);
        let filters = self.inspection(rule, &origin, source, pattern.as_ref(), reading.mistakes);
        let rules = self.response(&rule.response, source, reading.mistakes);
        let hosts = rule.hosts.clone().unwrap_or_default();
        let matching: Vec<HostPattern> =
            hosts.iter().filter_map(|host| HostPattern::compile(host, reading)).collect();
        advise(rule, name, filters.as_ref(), reading);

        let pattern = pattern?;
        let shape = Shape {
            route: number,
            name: name.value.as_str().into(),
            pattern: pattern.clone(),
            hosts: matching,
            place: reading.source.place(rule.pattern.span.clone()),
        };
        let route = Route {
            name: name.value.as_str().into(),
            origin,
            summary: rule.summary.clone(),
            number: u32::try_from(number).unwrap_or(u32::MAX),
            pattern,
            hosts: hosts.into_iter().map(|host| host.value).collect(),
            authenticate: authenticate?,
            doors: doors?,
            budgets: budgets?,
            filters: filters?,
            upstream: upstream?,
            rewrite: match rewrite {
                None => None,
                Some(made) => Some(made?),
            },
            timeout: rule.timeout.or(self.defaults.rule.timeout).map(|span| span.0),
            keep_credentials: rule.keep_credentials,
            rules,
            meters: self.ground.metrics.route(&name.value),
        };
        Some((route, shape))
    }

    fn upstream(&self, name: &At<String>, reading: &mut Reading<'_>) -> Option<Arc<Upstream>> {
        let found = self.ground.upstreams.find(name);
        if found.is_none() {
            let known: Vec<&str> = self.ground.upstreams.iter().map(|upstream| upstream.name()).collect();
            reading.wrong(
                Code::Undefined,
                &name.span,
                format!("upstream `{}` is not defined in gateway.toml", name.value),
                suggest(name, known),
            );
        }
        found.cloned()
    }

    fn doors(
        &self,
        rule: &RouteRule,
        authenticate: Option<&Authenticate>,
        pattern: Option<&Pattern>,
        origin: &Origin,
        reading: &mut Reading<'_>,
    ) -> Option<Doors> {
        let open = authenticate.is_some_and(Authenticate::is_open);
        let Some(allow) = &rule.allow else {
            if open {
                return Some(Doors::open());
            }
            reading.wrong(
                Code::NoDoor,
                &rule.pattern.span,
                format!("nobody may use `{}`", origin.rule()),
                "add allow = [{ scopes = [\"…\"] }], or open it to every caller who is authenticated with allow = [{ anyone = true }]",
            );
            return None;
        };
        let parameters: Vec<&str> = pattern
            .map(|pattern| pattern.parameters().map(|(name, _)| &**name).collect())
            .unwrap_or_default();
        let frame = Frame { vocabulary: self.vocabulary, parameters: &parameters, route: origin };
        Doors::compile(allow, frame, reading)
    }

    fn budgets(&self, rule: &RouteRule, name: &At<String>, source: &Arc<Source>, mistakes: &mut Mistakes) -> Option<Budgets> {
        let buckets = &self.ground.buckets;
        match self.either(&rule.limits, source, &self.defaults.rule.limits) {
            Some((names, source)) => {
                Budgets::compile(names, &self.limits, &name.value, buckets, &mut Reading { source, mistakes })
            }
            None => Some(Budgets::none(buckets)),
        }
    }

    fn inspection(
        &self,
        rule: &RouteRule,
        origin: &Origin,
        source: &Arc<Source>,
        pattern: Option<&Pattern>,
        mistakes: &mut Mistakes,
    ) -> Option<Filters> {
        let defaults = &self.defaults.rule;
        let examine = match self.either(&rule.filter, source, &defaults.filter) {
            None => None,
            Some((name, _)) if name.value == "none" => None,
            Some((name, source)) => {
                let found = self.filters.get(&name.value);
                if found.is_none() {
                    let says = format!("filter `{}` is not defined", name.value);
                    let help = suggest(name, self.filters.keys().map(String::as_str));
                    Reading { source, mistakes }.wrong(Code::Undefined, &name.span, says, help);
                }
                found.cloned()
            }
        };
        let written = InspectRule {
            body: self.either(&rule.body, source, &defaults.body),
            query: self.either(&rule.query, source, &defaults.query),
            headers: self.either(&rule.headers, source, &defaults.headers),
            examine,
            methods: pattern.map(Pattern::method),
        };
        Filters::compile(written, origin, &self.files.dir, mistakes)
    }
}

/// Advice on what a route leaves out.
fn advise(rule: &RouteRule, name: &At<String>, filters: Option<&Filters>, reading: &mut Reading<'_>) {
    let _ = (rule, name, filters, reading);
}
