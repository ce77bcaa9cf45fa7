//! All routes as trees, one for each host, so that finding one costs as much as its path is long.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use http::Method;

use crate::head::METHODS;
use crate::mistake::code::Code;
use crate::mistake::source::Place;
use crate::mistake::{Mistake, Mistakes};
use crate::route::host::HostPattern;
use crate::route::pattern::{Kind, PARAMETERS_MAX, Pattern, Segment};
use crate::route::{Found, Parameters};

/// What the table must know of a route.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The number by which the route is found.
    pub route: usize,
    /// Its name, for mistakes.
    pub name: Arc<str>,
    /// Its `match`.
    pub pattern: Pattern,
    /// Its `hosts`; none means all.
    pub hosts: Vec<HostPattern>,
    /// Where its `match` stands.
    pub place: Place,
}

/// All routes, arranged for finding.
///
/// A route matches when its host, path and method do. Of those that match, the most specific one
/// holds: an exact host before the longest wildcard before none; then, segment by segment from the
/// left, a literal before a typed parameter (narrow before wide) before a plain one before the
/// rest; then the method itself before `*`. A HEAD without a route of its own follows GET.
#[derive(Debug, Default)]
pub struct Table {
    entries: Vec<Entry>,
    nodes: Vec<Node>,
    exact: QuickMap<usize>,
    under: QuickMap<usize>,
    any: Option<usize>,
}

#[derive(Debug)]
struct Entry {
    route: usize,
    names: Box<[Arc<str>]>,
}

/// The routes that share a beginning. Numbers are indices into the table's nodes and entries.
#[derive(Debug, Default)]
struct Node {
    literals: QuickMap<usize>,
    typed: [Option<usize>; Kind::ALL.len()],
    here: Leaf,
    rest: Leaf,
}

/// The routes that share a whole path: one for each method, and one for `*`.
#[derive(Debug, Default)]
struct Leaf {
    methods: [Option<usize>; METHODS.len()],
    every: Option<usize>,
}

type QuickMap<T> = HashMap<Box<str>, T, BuildHasherDefault<Quick>>;

impl Table {
    /// Arranges the routes. Two that match exactly the same requests are a [`Code::Collision`];
    /// the one that stands first keeps its place.
    pub fn compile(shapes: Vec<Shape>, mistakes: &mut Mistakes) -> Self {
        let mut table = Self::default();
        for (number, shape) in shapes.iter().enumerate() {
            let names = shape.pattern.parameters().map(|(name, _)| Arc::clone(name)).collect();
            table.entries.push(Entry { route: shape.route, names });
            let hosts = shape.hosts.iter().map(Some).chain(shape.hosts.is_empty().then_some(None));
            let mut collided: Vec<usize> = Vec::new();
            for host in hosts {
                let root = table.root(host);
                let earlier = table
                    .leaf(root, &shape.pattern)
                    .and_then(|leaf| leaf.slot(shape.pattern.method()))
                    .map(|slot| *slot.get_or_insert(number));
                match earlier {
                    Some(earlier) if earlier != number && !collided.contains(&earlier) => {
                        collided.push(earlier);
                        if let Some(earlier) = shapes.get(earlier) {
                            mistakes.push(collision(earlier, shape, host));
                        }
                    }
                    _ => {}
                }
            }
        }
        table
    }

    /// The route for a method, a head's host and its canonical path. What it costs follows from the
    /// path's length and from how many kinds of parameter a segment fits, not from how many routes
    /// or hosts there are: siblings are never looked at one after the other.
    pub fn find(&self, method: &Method, host: &str, path: &str) -> Found {
        let mut search =
            Search { method: number(method), values: [""; PARAMETERS_MAX], count: 0, others: 0 };
        let path = path.strip_prefix('/');
        let found = self
            .roots(host)
            .find_map(|root| path.and_then(|path| self.walk(root, Some(path), &mut search)));
        match found.and_then(|entry| self.entries.get(entry)) {
            Some(entry) => {
                let values = entry.names.iter().cloned().zip(search.values);
                let values = values.map(|(name, value)| (name, Box::from(value)));
                Found::Route(entry.route, Parameters(values.collect()))
            }
            None if search.others != 0 => Found::OtherMethods(method_list(search.others)),
            None => Found::Nothing,
        }
    }

    /// The trees in which this host's routes stand, the most specific one first.
    fn roots(&self, host: &str) -> impl Iterator<Item = usize> {
        let suffixes = (!self.under.is_empty()).then(|| {
            host.match_indices('.').filter_map(|(at, _)| self.under.get(host.get(at + 1..)?))
        });
        let exact = if self.exact.is_empty() { None } else { self.exact.get(host) };
        exact.into_iter().chain(suffixes.into_iter().flatten()).copied().chain(self.any)
    }

    /// Goes down the tree, the most specific branch first, and comes back where it ends.
    fn walk<'p>(
        &self,
        node: usize,
        remaining: Option<&'p str>,
        search: &mut Search<'p>,
    ) -> Option<usize> {
        let node = self.nodes.get(node)?;
        let Some(path) = remaining else { return node.here.pick(search) };
        let (segment, after) = match path.split_once('/') {
            Some((segment, after)) => (segment, Some(after)),
            None => (path, None),
        };
        if let Some(child) = node.literals.get(segment)
            && let Some(found) = self.walk(*child, after, search)
        {
            return Some(found);
        }
        for (kind, child) in Kind::ALL.into_iter().zip(node.typed) {
            if let Some(child) = child
                && kind.accepts(segment)
            {
                let found = search.within(segment, |search| self.walk(child, after, search));
                if found.is_some() {
                    return found;
                }
            }
        }
        search.within(path, |search| node.rest.pick(search))
    }

    /// The root of a host's tree; made when there is none yet.
    fn root(&mut self, host: Option<&HostPattern>) -> usize {
        let next = self.nodes.len();
        let root = match host {
            Some(HostPattern::Exact(name)) => *self.exact.entry(name.clone()).or_insert(next),
            Some(HostPattern::Under(suffix)) => *self.under.entry(suffix.clone()).or_insert(next),
            None => *self.any.get_or_insert(next),
        };
        if root == next {
            self.nodes.push(Node::default());
        }
        root
    }

    /// The leaf of a pattern under a root; made, with the way to it, when there is none yet.
    fn leaf(&mut self, root: usize, pattern: &Pattern) -> Option<&mut Leaf> {
        let mut at = root;
        for segment in pattern.segments() {
            let next = self.nodes.len();
            let node = self.nodes.get_mut(at)?;
            at = match segment {
                Segment::Literal(text) => *node.literals.entry(text.clone()).or_insert(next),
                Segment::Parameter(_, kind) => {
                    let place = Kind::ALL.iter().position(|known| known == kind)?;
                    *node.typed.get_mut(place)?.get_or_insert(next)
                }
                Segment::Rest(_) => return self.nodes.get_mut(at).map(|node| &mut node.rest),
            };
            if at == next {
                self.nodes.push(Node::default());
            }
        }
        self.nodes.get_mut(at).map(|node| &mut node.here)
    }
}

impl Leaf {
    fn slot(&mut self, method: Option<&Method>) -> Option<&mut Option<usize>> {
        match method {
            Some(method) => self.methods.get_mut(number(method)?),
            None => Some(&mut self.every),
        }
    }

    /// The entry for the method that is searched; otherwise the methods there are get noted.
    fn pick(&self, search: &mut Search<'_>) -> Option<usize> {
        let at = |method: usize| self.methods.get(method).copied().flatten();
        let method = search.method?;
        let found =
            at(method).or_else(|| if method == HEAD { at(GET) } else { None }).or(self.every);
        if found.is_none() {
            let known = self.methods.iter().enumerate().filter(|(_, entry)| entry.is_some());
            search.others |= known.fold(0, |others, (method, _)| others | 1 << method);
        }
        found
    }
}

/// What is searched, and what was seen on the way.
struct Search<'p> {
    method: Option<usize>,
    values: [&'p str; PARAMETERS_MAX],
    count: usize,
    others: u8,
}

impl<'p> Search<'p> {
    /// Goes on with one more value, which is taken back when nothing is found.
    fn within(
        &mut self,
        value: &'p str,
        go: impl FnOnce(&mut Self) -> Option<usize>,
    ) -> Option<usize> {
        if let Some(place) = self.values.get_mut(self.count) {
            *place = value;
        }
        self.count += 1;
        let found = go(self);
        self.count -= 1;
        found
    }
}

/// Where GET and HEAD stand among [`METHODS`].
const GET: usize = 1;
const HEAD: usize = 2;

fn number(method: &Method) -> Option<usize> {
    METHODS.iter().position(|known| known == method)
}

/// The methods of a set of numbers, in the order of the alphabet; HEAD wherever GET is.
fn method_list(set: u8) -> Box<str> {
    let set = if set & 1 << GET != 0 { set | 1 << HEAD } else { set };
    let known = METHODS.iter().enumerate().filter(|(number, _)| set & 1 << number != 0);
    known.map(|(_, method)| method.as_str()).collect::<Vec<_>>().join(", ").into()
}

fn collision(earlier: &Shape, later: &Shape, host: Option<&HostPattern>) -> Mistake {
    let (method, path) = later.pattern.example();
    let host = host.map(HostPattern::example).unwrap_or_default();
    Mistake::new(Code::Collision, "two routes match the same requests")
        .at(later.place.clone())
        .label(format!("routes.{} also matches {method} {host}{path}", later.name))
        .also(earlier.place.clone(), format!("routes.{}", earlier.name))
        .help("give one of them another method, path, parameter type or host")
}

/// A fast hash for texts that operators wrote. Callers' texts are only looked up, never kept, so
/// they cannot make buckets long.
#[derive(Default)]
struct Quick(u64);

const QUICK_FACTOR: u64 = 0xF135_7AEA_2E62_A9C5;

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        let (words, tail) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last.iter_mut().zip(tail).for_each(|(place, byte)| *place = *byte);
        self.write_u64(u64::from_le_bytes(last));
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(QUICK_FACTOR);
    }

    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}
