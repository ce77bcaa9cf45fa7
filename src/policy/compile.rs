//! From policy files to a policy, or to the list of everything that is wrong in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::authenticate::api_key::ApiKeyScheme;
use crate::authenticate::directory::Directory;
use crate::authenticate::nonce::Nonces;
use crate::authenticate::rule::AuthRule;
use crate::authenticate::signature::SignatureScheme;
use crate::authenticate::{Authenticate, Scheme};
use crate::authorize::vocabulary::Vocabulary;
use crate::authorize::{Doors, Frame};
use crate::clock::Clock;
use crate::forward::upstream::{Upstream, Upstreams};
use crate::inspect::detect::rule as detection;
use crate::inspect::field::Examine;
use crate::inspect::{Filters, InspectRule, Parts};
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
use crate::record::Record;
use crate::respond::headers::{ResponseRule, Rules};
use crate::route::host::HostPattern;
use crate::route::pattern::Pattern;
use crate::route::rewrite::Rewrite;
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
    pub record: Arc<Record>,
    /// Where time comes from, for dates that must lie ahead.
    pub clock: Clock,
}

/// Compiles the files of a policy. Nothing is made when any mistake must be mended; all are reported.
pub fn compile(files: &Files, ground: &Ground, mistakes: &mut Mistakes) -> Option<Policy> {
    let before = mistakes.count().0;
    let sections = Sections::read(&files.sources, mistakes);
    let first = files.sources.first()?;
    let Sections {
        name,
        vocabulary,
        address,
        defaults,
        limits,
        filters,
        signatures,
        routes,
        cases,
        ..
    } = sections;
    let vocabulary = compiled_vocabulary(vocabulary, first, mistakes);
    let address = compiled_address(address, ground, first, mistakes);
    let defaults = defaults.unwrap_or_else(|| Single {
        rule: whole(DefaultsRule::default()),
        source: Arc::clone(first),
    });
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
        signatures: BTreeMap::new(),
        parts: Parts::default(),
    };
    shop.limits(&limits, mistakes);
    shop.filters(&filters, mistakes);
    shop.schemes(&signatures, mistakes);
    shop.default_parts(mistakes);
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
    let signatures = shop.signatures;
    let cases = cases
        .iter()
        .filter_map(|(rule, source)| {
            Case::compile(rule, &vocabulary, &mut Reading { source, mistakes })
        })
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
        signatures,
    })
}

fn whole<T>(value: T) -> At<T> {
    At { value, span: 0..0 }
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
    limits: BTreeMap<String, Option<Arc<Limit>>>,
    filters: BTreeMap<String, Arc<dyn Examine>>,
    schemes: BTreeMap<String, Arc<dyn Scheme>>,
    signatures: BTreeMap<String, Arc<SignatureScheme>>,
    parts: Parts,
}

impl Workshop<'_> {
    fn limits(
        &mut self,
        written: &[Named<crate::limit::rule::LimitRule>],
        mistakes: &mut Mistakes,
    ) {
        for Named { name, rule, source } in written {
            let limit =
                Limit::compile(name, rule, self.vocabulary, &mut Reading { source, mistakes });
            self.limits.insert(name.value.clone(), limit.map(Arc::new));
        }
    }

    fn filters(&mut self, written: &[Named<detection::FilterRule>], mistakes: &mut Mistakes) {
        let now = self.ground.clock.now();
        for Named { name, rule, source } in written {
            let mut reading = Reading { source, mistakes };
            let origin = reading.origin(format!("filters.{}", name.value), &name.span);
            if let Some(filter) = detection::compile(rule, &origin, &mut reading, now) {
                self.filters.insert(name.value.clone(), Arc::new(filter));
            }
        }
    }

    fn schemes(
        &mut self,
        written: &[Named<crate::authenticate::signature::rule::SignatureRule>],
        mistakes: &mut Mistakes,
    ) {
        let directory = &self.ground.directory;
        self.schemes
            .insert("api-key".to_owned(), Arc::new(ApiKeyScheme::new(Arc::clone(directory))));
        for Named { name, rule, source } in written {
            let mut reading = Reading { source, mistakes };
            let keys = Arc::clone(directory) as Arc<dyn crate::authenticate::SigningKeys>;
            let nonces = Arc::clone(&self.ground.nonces);
            if let Some(scheme) = rule.compile(&name.value, &name.span, keys, nonces, &mut reading)
            {
                let (name, scheme) = (format!("signature.{}", name.value), Arc::new(scheme));
                self.schemes.insert(name.clone(), Arc::clone(&scheme) as Arc<dyn Scheme>);
                self.signatures.insert(name, scheme);
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
        own.as_ref()
            .map(|value| (value, source))
            .or_else(|| default.as_ref().map(|value| (value, &self.defaults.source)))
    }

    fn authenticate(
        &self,
        own: &Option<At<AuthRule>>,
        source: &Arc<Source>,
        mistakes: &mut Mistakes,
    ) -> Option<Authenticate> {
        match self.either(own, source, &self.defaults.rule.auth) {
            Some((rule, source)) => Authenticate::compile(
                rule,
                &self.schemes,
                &self.realm,
                &mut Reading { source, mistakes },
            ),
            // Nothing said means the safe thing.
            None => {
                let rule = whole(AuthRule::usual());
                Authenticate::compile(
                    &rule,
                    &self.schemes,
                    &self.realm,
                    &mut Reading { source, mistakes },
                )
            }
        }
    }

    fn unmatched(&self, mistakes: &mut Mistakes) -> Option<Unmatched> {
        let source = &self.defaults.source;
        let authenticate = self.authenticate(&None, source, mistakes)?;
        let rules = self.response(&None, source, mistakes);
        Some(Unmatched {
            authenticate,
            rules,
            meters: Arc::clone(self.ground.record.metrics().unmatched()),
        })
    }

    fn response(
        &self,
        own: &Option<At<ResponseRule>>,
        source: &Arc<Source>,
        mistakes: &mut Mistakes,
    ) -> Rules {
        let style = self.defaults.rule.limit_headers;
        match self.either(own, source, &self.defaults.rule.response) {
            Some((rule, source)) => Rules::compile(rule, style, &mut Reading { source, mistakes }),
            None => {
                Rules::compile(&ResponseRule::default(), style, &mut Reading { source, mistakes })
            }
        }
    }

    /// One route, and its shape for the table. Every rule is compiled whatever becomes of the
    /// others, so that all mistakes are found.
    fn route(
        &self,
        number: usize,
        named: &Named<RouteRule>,
        reading: &mut Reading<'_>,
    ) -> Option<(Route, Shape)> {
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
        let filters = self.inspection(rule, name, reading);
        let rules = self.response(&rule.response, source, reading.mistakes);
        let hosts = rule.hosts.clone().unwrap_or_default();
        let matching: Vec<HostPattern> =
            hosts.iter().filter_map(|host| HostPattern::compile(host, reading)).collect();

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
            meters: self.ground.record.metrics().route(&name.value, Some(&rule.upstream)),
        };
        advise(rule, &route, reading);
        Some((route, shape))
    }

    fn upstream(&self, name: &At<String>, reading: &mut Reading<'_>) -> Option<Arc<Upstream>> {
        let found = self.ground.upstreams.find(name);
        if found.is_none() {
            let known: Vec<&str> =
                self.ground.upstreams.iter().map(|upstream| upstream.name()).collect();
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

    fn budgets(
        &self,
        rule: &RouteRule,
        name: &At<String>,
        source: &Arc<Source>,
        mistakes: &mut Mistakes,
    ) -> Option<Budgets> {
        let buckets = &self.ground.buckets;
        match self.either(&rule.limits, source, &self.defaults.rule.limits) {
            Some((names, source)) => Budgets::compile(
                names,
                &self.limits,
                &name.value,
                buckets,
                &mut Reading { source, mistakes },
            ),
            None => Some(Budgets::none(buckets)),
        }
    }

    fn inspection(
        &self,
        rule: &RouteRule,
        name: &At<String>,
        reading: &mut Reading<'_>,
    ) -> Option<Filters> {
        let written = InspectRule {
            body: rule.body.as_ref(),
            query: rule.query.as_ref(),
            headers: rule.headers.as_ref(),
        };
        let files = |path: &str| self.file(path);
        let own = Parts::compile(&written, &format!("routes.{}", name.value), &files, reading);
        let examine = self.examine(rule.filter.as_ref(), reading);
        let own = Parts { examine: examine?, ..own? };
        let mut defaults = self.parts.clone();
        if rule.filter.is_some() {
            // `filter = "none"` replaces the default by nothing.
            defaults.examine = None;
        }
        Filters::compile(own.or(&defaults), name, reading)
    }

    /// The filter that a rule names; nothing for none, and a mistake for one that is not there.
    fn examine(
        &self,
        name: Option<&At<String>>,
        reading: &mut Reading<'_>,
    ) -> Option<Option<Arc<dyn Examine>>> {
        let Some(name) = name.filter(|name| name.value != "none") else { return Some(None) };
        let found = self.filters.get(&name.value);
        if found.is_none() {
            let says = format!("filter `{}` is not defined", name.value);
            let help = suggest(name, self.filters.keys().map(String::as_str));
            reading.wrong(Code::Undefined, &name.span, says, help);
        }
        found.cloned().map(Some)
    }

    fn default_parts(&mut self, mistakes: &mut Mistakes) {
        let rule = &self.defaults.rule;
        let written = InspectRule {
            body: rule.body.as_ref(),
            query: rule.query.as_ref(),
            headers: rule.headers.as_ref(),
        };
        let reading = &mut Reading { source: &self.defaults.source, mistakes };
        let files = |path: &str| self.file(path);
        let parts = Parts::compile(&written, "defaults", &files, reading);
        let examine = self.examine(rule.filter.as_ref(), reading);
        if let (Some(parts), Some(examine)) = (parts, examine) {
            self.parts = Parts { examine, ..parts };
        }
    }

    /// A file that the policy refers to. Nothing outside of its directory is read.
    fn file(&self, path: &str) -> std::io::Result<String> {
        let path = std::path::Path::new(path);
        let inside = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if !inside {
            return Err(std::io::Error::other("it lies outside of the policy directory"));
        }
        std::fs::read_to_string(self.files.dir.join(path))
    }
}

/// Advice on what a route leaves out.
fn advise(rule: &RouteRule, route: &Route, reading: &mut Reading<'_>) {
    let span = &rule.pattern.span;
    let name = &route.name;
    let changes = !matches!(
        route.pattern.method().map(http::Method::as_str),
        Some("GET" | "HEAD" | "OPTIONS")
    );
    if changes && route.budgets.is_empty() {
        let says = format!("`routes.{name}` changes things and has no budget of its own");
        reading.wrong(Code::NoLimit, span, says, "add limits = [\"…\"]");
    }
    if changes && route.filters.body_max() > 0 {
        if route.filters.body().accepts_json() && !route.filters.body().has_schema() {
            let says = format!("`routes.{name}` accepts JSON of any shape");
            reading.wrong(
                Code::NoSchema,
                span,
                says,
                "add schema = \"bodies/….json\" to its `body`",
            );
        }
        if !route.filters.looks_in(crate::inspect::field::PlaceKind::Body) {
            let says = format!("bodies of `routes.{name}` are not inspected for attacks");
            reading.wrong(Code::NoFilter, span, says, "name a filter whose `look_in` has \"body\"");
        }
    }
}
