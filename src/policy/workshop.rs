//! Makes routes out of rules, with everything that rules may name.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::authenticate::api_key::ApiKeyScheme;
use crate::authenticate::introspection::Introspector;
use crate::authenticate::jwt::Verifier;
use crate::authenticate::rule::AuthRule;
use crate::authenticate::signature::SignatureScheme;
use crate::authenticate::{Authenticate, Scheme};
use crate::authorize::vocabulary::Vocabulary;
use crate::authorize::{Doors, Frame};
use crate::inspect::detect::rule as detection;
use crate::inspect::field::Examine;
use crate::inspect::{Filters, InspectRule, Parts};
use crate::limit::Budgets;
use crate::limit::rule::Limit;
use crate::mistake::code::Code;
use crate::mistake::source::{At, Origin, Source};
use crate::mistake::{Mistakes, Reading, suggest};
use crate::policy::Unmatched;
use crate::policy::advice::advise;
use crate::policy::compile::Ground;
use crate::policy::destination::call_body;
use crate::policy::files::Files;
use crate::policy::route::Route;
use crate::policy::rule::{DefaultsRule, RouteRule};
use crate::policy::sections::{Named, Single};
use crate::respond::cors::Cors;
use crate::respond::headers::{ResponseRule, Rules};
use crate::route::host::HostPattern;
use crate::route::pattern::Pattern;
use crate::route::rewrite::Rewrite;
use crate::route::table::Shape;

/// What routes are made with: everything that they may name.
pub(in crate::policy) struct Workshop<'a> {
    pub(in crate::policy) ground: &'a Ground,
    pub(in crate::policy) files: &'a Files,
    pub(in crate::policy) realm: Arc<str>,
    pub(in crate::policy) vocabulary: &'a Vocabulary,
    pub(in crate::policy) defaults: &'a Single<DefaultsRule>,
    pub(in crate::policy) limits: BTreeMap<String, Option<Arc<Limit>>>,
    pub(in crate::policy) filters: BTreeMap<String, Arc<dyn Examine>>,
    pub(in crate::policy) schemes: BTreeMap<String, Arc<dyn Scheme>>,
    pub(in crate::policy) signatures: BTreeMap<String, Arc<SignatureScheme>>,
    pub(in crate::policy) verifiers: Vec<Arc<Verifier>>,
    pub(in crate::policy) introspectors: Vec<Arc<Introspector>>,
    pub(in crate::policy) parts: Parts,
}

impl Workshop<'_> {
    pub(in crate::policy) fn limits(
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

    pub(in crate::policy) fn filters(
        &mut self,
        written: &[Named<detection::FilterRule>],
        mistakes: &mut Mistakes,
    ) {
        let now = self.ground.clock.now();
        for Named { name, rule, source } in written {
            let mut reading = Reading { source, mistakes };
            let origin = reading.origin(format!("filters.{}", name.value), &name.span);
            match detection::compile(rule, &origin, &mut reading, now) {
                Some(filter) => drop(self.filters.insert(name.value.clone(), Arc::new(filter))),
                None => mistakes.broke(format!("filters.{}", name.value)),
            }
        }
    }

    pub(in crate::policy) fn schemes(
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
            match rule.compile(&name.value, &name.span, keys, nonces, &mut reading) {
                Some(scheme) => {
                    let (name, scheme) = (format!("signature.{}", name.value), Arc::new(scheme));
                    self.schemes.insert(name.clone(), Arc::clone(&scheme) as Arc<dyn Scheme>);
                    self.signatures.insert(name, scheme);
                }
                None => mistakes.broke(format!("signatures.{}", name.value)),
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

    pub(in crate::policy) fn unmatched(&self, mistakes: &mut Mistakes) -> Option<Unmatched> {
        let source = &self.defaults.source;
        let authenticate = self.authenticate(&None, source, mistakes)?;
        let rules = self.response(None, source, mistakes);
        Some(Unmatched {
            authenticate,
            rules,
            meters: Arc::clone(self.ground.record.metrics().unmatched()),
        })
    }

    fn response(
        &self,
        own: Option<&RouteRule>,
        source: &Arc<Source>,
        mistakes: &mut Mistakes,
    ) -> Rules {
        let (own, own_cors) = own.map_or((&None, &None), |rule| (&rule.response, &rule.cors));
        let defaults = &self.defaults.rule;
        let cors = self.either(own_cors, source, &defaults.cors);
        let cors =
            cors.and_then(|(rule, source)| Cors::compile(rule, &mut Reading { source, mistakes }));
        let usual = ResponseRule::default();
        let (rule, source) = match self.either(own, source, &defaults.response) {
            Some((rule, source)) => (&rule.value, source),
            None => (&usual, source),
        };
        let reading = &mut Reading { source, mistakes };
        Rules::compile(rule, defaults.limit_headers, reading).with_cors(cors)
    }

    /// All routes, each with its shape for the table.
    pub(in crate::policy) fn routes(
        &self,
        written: &[Named<RouteRule>],
        mistakes: &mut Mistakes,
    ) -> (Vec<Route>, Vec<Shape>) {
        let mut made = (Vec::new(), Vec::new());
        for named in written {
            let reading = &mut Reading { source: &named.source, mistakes };
            if let Some((route, shape)) = self.route(made.0.len(), named, reading) {
                made.0.push(route);
                made.1.push(shape);
            }
        }
        made
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
        let authenticate = self.authenticate(&rule.auth, source, reading.mistakes);
        let doors = self.doors(rule, authenticate.as_ref(), pattern.as_ref(), &origin, reading);
        let destination = self.destination(named, authenticate.as_ref(), pattern.as_ref(), reading);
        let budgets = self.budgets(rule, name, source, reading.mistakes);
        let filters = self.inspection(rule, name, reading);
        let rules = self.response(Some(rule), source, reading.mistakes);
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
            destination: destination?,
            rewrite: match rewrite {
                None => None,
                Some(made) => Some(made?),
            },
            timeout: rule.timeout.or(self.defaults.rule.timeout).map(|span| span.0),
            keep_credentials: rule.keep_credentials,
            rules,
            meters: self
                .ground
                .record
                .metrics()
                .route(&name.value, rule.upstream.as_ref().map(|name| name.value.as_str())),
        };
        advise(rule, &route, reading);
        Some((route, shape))
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
        let parameters: Vec<&str> = pattern
            .map(|pattern| pattern.parameters().map(|(name, _)| &**name).collect())
            .unwrap_or_default();
        let frame = Frame {
            vocabulary: self.vocabulary,
            parameters: &parameters,
            route: origin,
            now: self.ground.clock.now(),
        };
        let doors = match &rule.allow {
            Some(allow) => Doors::compile(allow, frame, reading),
            None if open => Some(Doors::open()),
            None => {
                reading.wrong(
                    Code::NoDoor,
                    &rule.pattern.span,
                    format!("nobody may use `{}`", origin.rule()),
                    "add allow = [{ scopes = [\"…\"] }], or open it to every caller who is authenticated with allow = [{ anyone = true }]",
                );
                None
            }
        };
        Doors::denying(doors, rule.deny.as_ref(), frame, reading)
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
        let call = rule.self_service.as_ref().map(call_body);
        let written = InspectRule {
            body: call.as_ref().or(rule.body.as_ref()),
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
        // A filter that is defined but broken was reported where it stands.
        if found.is_none() && !reading.mistakes.is_broken(&format!("filters.{}", name.value)) {
            let says = format!("filter `{}` is not defined", name.value);
            let help = suggest(name, self.filters.keys().map(String::as_str));
            reading.wrong(Code::Undefined, &name.span, says, help);
        }
        found.cloned().map(Some)
    }

    pub(in crate::policy) fn default_parts(&mut self, mistakes: &mut Mistakes) {
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

/// A value that stands nowhere in particular.
pub(in crate::policy) fn whole<T>(value: T) -> At<T> {
    At { value, span: 0..0 }
}
