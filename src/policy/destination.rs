//! Finds who answers the requests of a route, and what a route of self-service cannot have.

use std::sync::Arc;

use crate::authenticate::Authenticate;
use crate::authenticate::self_service::{BODY_BYTES_MAX, SelfService, SelfServiceRule};
use crate::forward::destination::Destination;
use crate::forward::upstream::Upstream;
use crate::inspect::body::rule::{BodyChoice, BodyRule};
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::mistake::{Reading, suggest};
use crate::name::Name;
use crate::policy::rule::RouteRule;
use crate::policy::sections::Named;
use crate::policy::workshop::{Workshop, whole};
use crate::route::pattern::Pattern;
use crate::units::Size;

impl Workshop<'_> {
    /// Who answers the requests of a route.
    pub(in crate::policy) fn destination(
        &self,
        Named { name, rule, .. }: &Named<RouteRule>,
        authenticate: Option<&Authenticate>,
        pattern: Option<&Pattern>,
        reading: &mut Reading<'_>,
    ) -> Option<Destination> {
        match (&rule.upstream, &rule.self_service) {
            (Some(upstream), None) => self.upstream(upstream, reading).map(Destination::Upstream),
            (upstream, Some(written)) => {
                let fits = fits(rule, upstream.as_ref(), (authenticate, pattern), reading);
                let roles = self.vocabulary.roles().map(|(role, _)| {
                    let closure = self.vocabulary.closure(Name::new(role));
                    (role.to_owned(), closure.iter().map(|role| role.text().to_owned()).collect())
                });
                let ground = (&self.ground.directory, roles.collect());
                let service = SelfService::compile(written, &name.value, ground, reading);
                service.filter(|_| fits).map(|service| Destination::Keys(Arc::new(service)))
            }
            (None, None) => {
                let says = "`upstream` is missing in a route";
                reading.wrong(Code::MissingKey, &name.span, says, "add `upstream = …`");
                None
            }
        }
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
}

/// What the body of a call may be. It is the same for all routes of self-service.
pub(in crate::policy) fn call_body(written: &At<SelfServiceRule>) -> At<BodyChoice> {
    let rule = BodyRule {
        max: Some(whole(Size(BODY_BYTES_MAX))),
        types: Some(whole(vec!["application/json".to_owned()])),
        required: Some(true),
        ..BodyRule::default()
    };
    At { value: BodyChoice::Rule(Box::new(rule)), span: written.span.clone() }
}

/// Whether a route of self-service has only what such a route can have; reports what it has not.
fn fits(
    rule: &RouteRule,
    upstream: Option<&At<String>>,
    (authenticate, pattern): (Option<&Authenticate>, Option<&Pattern>),
    reading: &mut Reading<'_>,
) -> bool {
    let mut faults = Vec::new();
    if let Some(upstream) = upstream {
        faults.push((
            &upstream.span,
            "the gateway answers this route itself",
            "take `upstream` out",
        ));
    }
    if let Some(body) = &rule.body {
        let says = "the body of a call has a form of its own";
        faults.push((&body.span, says, "take `body` out"));
    }
    if let Some(rewrite) = &rule.rewrite {
        faults.push((
            &rewrite.span,
            "there is no service to see another path",
            "take `rewrite` out",
        ));
    }
    if let Some(written) = &rule.self_service
        && (rule.keep_credentials || rule.timeout.is_some())
    {
        let says = "`timeout` and `keep_credentials` are about a service behind, and there is none";
        faults.push((&written.span, says, "take them out"));
    }
    let is_post = |pattern: &Pattern| {
        pattern.method() == Some(&http::Method::POST) && pattern.parameters().count() == 0
    };
    if pattern.is_some_and(|pattern| !is_post(pattern)) {
        let says = "calls about keys are a POST to one path";
        let help = "write match = \"POST /.well-known/portcullis/keys\"";
        faults.push((&rule.pattern.span, says, help));
    }
    if authenticate.is_some_and(Authenticate::is_open) {
        let span = rule.auth.as_ref().map_or(&rule.pattern.span, |auth| &auth.span);
        let says = "nobody has keys of their own here, because nobody is asked who they are";
        faults.push((span, says, "write auth = { any = [\"api-key\"] }"));
    }
    let fits = faults.is_empty();
    for (span, says, help) in faults {
        reading.wrong(Code::BadSelfService, span, says, help);
    }
    fits
}
