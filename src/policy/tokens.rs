//! Makes the schemes that believe issuers of tokens, with the names and claims that the policy knows.

use std::collections::HashMap;
use std::sync::Arc;

use crate::authenticate::Scheme;
use crate::authenticate::assurance::Wanted;
use crate::authenticate::introspection::rule::IntrospectionRule;
use crate::authenticate::jwt::claims::Known;
use crate::authenticate::jwt::rule::JwtRule;
use crate::authenticate::outside::Surroundings;
use crate::mistake::{Mistakes, Reading};
use crate::name::Name;
use crate::policy::rule::RouteRule;
use crate::policy::sections::Named;
use crate::policy::workshop::Workshop;

impl Workshop<'_> {
    /// The schemes `jwt.NAME` and `introspection.NAME`. `routes` say which claims their doors ask for.
    pub(in crate::policy) fn tokens(
        &mut self,
        (written, opaque): (&[Named<JwtRule>], &[Named<IntrospectionRule>]),
        routes: &[Named<RouteRule>],
        mistakes: &mut Mistakes,
    ) {
        let vocabulary = self.vocabulary;
        let known = Known {
            roles: vocabulary.roles().map(|(name, _)| name).collect(),
            scopes: vocabulary.scopes().map(|(name, _)| name).collect(),
            tiers: vocabulary.tiers().map(|(name, _)| name).collect(),
        };
        let wanted = wanted(routes);
        let surroundings = Surroundings {
            outside: &self.ground.outside,
            nonces: &self.ground.nonces,
            dir: &self.files.dir,
            known: &known,
            wanted: &wanted,
            directory: &self.ground.directory,
            clock: &self.ground.clock,
        };
        for Named { name, rule, source } in written {
            let mut reading = Reading { source, mistakes };
            match rule.compile(&name.value, &name.span, &surroundings, &mut reading) {
                Some(scheme) => {
                    self.verifiers.extend_from_slice(scheme.issuers());
                    let name = scheme.name().to_owned();
                    self.schemes.insert(name, Arc::new(scheme) as Arc<dyn Scheme>);
                }
                None => mistakes.broke(format!("jwt.{}", name.value)),
            }
        }
        for Named { name, rule, source } in opaque {
            let mut reading = Reading { source, mistakes };
            match rule.compile(&name.value, &name.span, &surroundings, &mut reading) {
                Some(scheme) => {
                    self.introspectors.push(Arc::clone(scheme.introspector()));
                    let name = scheme.introspector().name().to_owned();
                    self.schemes.insert(name, Arc::new(scheme) as Arc<dyn Scheme>);
                }
                None => mistakes.broke(format!("introspection.{}", name.value)),
            }
        }
    }
}

/// The claims that doors ask for. Only these are kept of a token.
fn wanted(routes: &[Named<RouteRule>]) -> Wanted {
    let doors =
        routes.iter().filter_map(|route| route.rule.allow.as_ref()).flat_map(|at| at.iter());
    let claims = doors.filter_map(|door| door.claims.as_ref()).flat_map(|claims| claims.keys());
    Arc::new(claims.map(|name| (name.as_str().into(), Name::new(name))).collect::<HashMap<_, _>>())
}
