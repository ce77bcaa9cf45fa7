//! Upstreams that stand in for those of a configuration that is not there.

use std::collections::BTreeSet;
use std::path::Path;

use crate::forward::identity::issuer::{Issuer, IssuerRule};
use crate::forward::reference::Surroundings;
use crate::forward::settings::{self, UpstreamRule};
use crate::forward::upstream::Upstreams;
use crate::mistake::source::Source;
use crate::mistake::{Mistakes, Reading};
use crate::policy::files::Files;
use crate::policy::sections::Sections;

/// Port 9 discards; nothing is ever sent there.
const STAND_IN: &str = "targets = [\"http://127.0.0.1:9\"]";

/// An upstream for every name that a route of these files uses.
pub(in crate::rehearse) fn upstreams(files: &Files) -> Upstreams {
    // What is wrong in the files is told by whoever compiles them.
    let mut ignored = Mistakes::default();
    let sections = Sections::read(&files.sources, &mut ignored);
    let names = sections.routes.iter().filter_map(|route| route.rule.upstream.as_ref());
    let names: BTreeSet<&str> = names.map(|name| name.value.as_str()).collect();
    let source = Source::new("upstreams", STAND_IN);
    let Ok(rule) = toml::from_str::<UpstreamRule>(STAND_IN) else { return Upstreams::default() };
    let mut reading = Reading { source: &source, mistakes: &mut ignored };
    let surroundings = Surroundings {
        base_dir: Path::new("."),
        forbidden: &[],
        environment: &|_| None,
        only_looking: false,
        issuer: &Issuer::compile(&IssuerRule::default(), &mut reading),
    };
    let made = names.iter().filter_map(|name| {
        let mut reading = Reading { source: &source, mistakes: &mut ignored };
        settings::compile(&rule, name, &(0..0), &surroundings, &mut reading)
    });
    Upstreams::new(made.collect::<Vec<_>>())
}
