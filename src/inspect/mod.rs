//! Runs the route's filters over head and body; makes a `Cleared` request.

pub mod field;
pub mod content;
mod decode;
mod pattern;
mod pass;
pub mod json;
pub mod schema;
pub mod body;
pub mod query;
pub mod headers;
mod look;
pub mod detect;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::authenticate::digest::Expected;
use crate::head::Head;
use crate::inspect::body::BodyFilter;
use crate::inspect::body::rule::BodyChoice;
use crate::inspect::content::{Kind, Media};
use crate::inspect::field::{Examine, Objection, PlaceKind};
use crate::inspect::headers::{HeaderFilter, HeadersRule};
use crate::inspect::look::Look;
use crate::inspect::query::{QueryFilter, QueryRule};
use crate::inspect::schema::Files;
use crate::limit::Admission;
use crate::listen::Length;
use crate::listen::body::Body;
use crate::listen::gather;
use crate::listen::room::Held;
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::{At, Origin};
use crate::refusal::{Reason, Refusal};
use crate::route::Parameters;

/// A request that passed every filter. Made by [`Filters::inspect`] alone; `forward` accepts nothing else.
#[derive(Debug)]
pub struct Cleared {
    head: Box<Head>,
    body: Body,
    admission: Admission,
    held: Held,
}

impl Cleared {
    /// The head that was inspected.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The proof before this one.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Head, body, admission, and the room that the body takes; for the stage that sends them. The
    /// last must live until the body is sent.
    pub fn into_parts(self) -> (Box<Head>, Body, Admission, Held) {
        (self.head, self.body, self.admission, self.held)
    }
}

/// What rules that only watch would have refused.
#[derive(Debug, Default)]
pub struct Observed {
    seen: Vec<Seen>,
    more: u32,
}

/// One thing that a rule saw and let pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Why the rule would have refused.
    pub reason: Reason,
    /// The rule.
    pub origin: Origin,
    /// What only the record may know.
    pub detail: Box<str>,
}

/// How many observations of a request are kept.
const SEEN_MAX: usize = 16;

impl Observed {
    /// The first that were seen, at most sixteen.
    pub fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// What was seen, in the words of the record.
    pub fn refusals(&self) -> impl Iterator<Item = Refusal> {
        self.seen
            .iter()
            .map(|seen| Refusal::new(seen.reason).by(&seen.origin).because(seen.detail.to_string()))
    }

    /// How many more there were.
    pub fn more(&self) -> u32 {
        self.more
    }

    fn note(&mut self, objection: Objection) {
        if self.seen.len() >= SEEN_MAX {
            self.more = self.more.saturating_add(1);
            return;
        }
        let Objection { reason, origin, detail, observe: _ } = objection;
        self.seen.push(Seen { reason, origin, detail });
    }
}

/// What a route, or the policy's defaults, write about requests.
#[derive(Clone, Copy, Default)]
pub struct InspectRule<'r> {
    /// `body = …`
    pub body: Option<&'r At<BodyChoice>>,
    /// `query = …`
    pub query: Option<&'r At<QueryRule>>,
    /// `headers = …`
    pub headers: Option<&'r At<HeadersRule>>,
}

/// The filters that one place of the policy describes, each shared by the routes that it holds for.
#[derive(Clone, Default)]
pub struct Parts {
    /// What bodies may be.
    pub body: Option<Arc<BodyFilter>>,
    /// What queries may be.
    pub query: Option<Arc<QueryFilter>>,
    /// What headers may be.
    pub headers: Option<Arc<HeaderFilter>>,
    /// What looks at every field for attacks.
    pub examine: Option<Arc<dyn Examine>>,
}

impl Parts {
    /// Compiles the rules of one place; `address` is its name, for example `routes.tasks-create`.
    /// The filter that looks for attacks is resolved by the caller, and added.
    pub fn compile(
        rule: &InspectRule<'_>,
        address: &str,
        files: &Files<'_>,
        reading: &mut Reading<'_>,
    ) -> Option<Self> {
        let InspectRule { body, query, headers } = rule;
        let body = body.map(|rule| {
            BodyFilter::compile(rule, &format!("{address}.body"), files, reading).map(Arc::new)
        });
        let query = query.map(|rule| {
            QueryFilter::compile(rule, &format!("{address}.query"), reading).map(Arc::new)
        });
        let headers = headers.map(|rule| {
            HeaderFilter::compile(rule, &format!("{address}.headers"), reading).map(Arc::new)
        });
        let sound = !matches!(body, Some(None))
            && !matches!(query, Some(None))
            && !matches!(headers, Some(None));
        sound.then(|| Self {
            body: body.flatten(),
            query: query.flatten(),
            headers: headers.flatten(),
            examine: None,
        })
    }

    /// These, and for what they leave out the others. A route's value replaces a default, never
    /// merges with it.
    #[must_use]
    pub fn or(self, defaults: &Self) -> Self {
        Self {
            body: self.body.or_else(|| defaults.body.clone()),
            query: self.query.or_else(|| defaults.query.clone()),
            headers: self.headers.or_else(|| defaults.headers.clone()),
            examine: self.examine.or_else(|| defaults.examine.clone()),
        }
    }
}

/// All filters of a route.
pub struct Filters {
    body: Arc<BodyFilter>,
    query: Option<Arc<QueryFilter>>,
    headers: Option<Arc<HeaderFilter>>,
    examine: Option<Arc<dyn Examine>>,
    /// Whether the filters look for attacks in bodies.
    examine_body: bool,
}

impl fmt::Debug for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { body, query, headers, examine: _, examine_body } = self;
        f.debug_struct("Filters")
            .field("body", body)
            .field("query", query)
            .field("headers", headers)
            .field("examine_body", examine_body)
            .finish_non_exhaustive()
    }
}

impl Filters {
    /// The filters of the route at `route`, put together from its own and the defaults.
    pub fn compile(parts: Parts, route: &At<String>, reading: &mut Reading<'_>) -> Option<Self> {
        let Parts { body, query, headers, examine } = parts;
        let body = body.unwrap_or_default();
        let examine_body =
            examine.as_ref().is_some_and(|examine| examine.looks_in(PlaceKind::Body));
        if examine_body && body.streams() {
            reading.wrong(
                Code::WrongValue,
                &route.span,
                format!("the filter of `{}` looks into bodies, which stream", route.value),
                "take out `stream`, or choose a filter whose `look_in` has no \"body\"",
            );
            return None;
        }
        Some(Self { body, query, headers, examine, examine_body })
    }

    /// Whether a body of this route may be read whole before it is sent.
    pub fn reads_body(&self) -> bool {
        self.body.reads() || (self.examine_body && self.body.bytes_max() > 0)
    }

    /// How many bytes a body may have.
    pub fn body_max(&self) -> u64 {
        self.body.bytes_max()
    }

    /// What bodies may be.
    pub fn body(&self) -> &BodyFilter {
        &self.body
    }

    /// Whether something looks for attacks in this part of a request.
    pub fn looks_in(&self, kind: PlaceKind) -> bool {
        self.examine.as_ref().is_some_and(|examine| examine.looks_in(kind))
    }

    /// What is looked at, in words: `body up to 16KiB of application/json, schema; attacks in path,
    /// query, header, body`.
    pub fn describe(&self) -> String {
        let kinds = [PlaceKind::Path, PlaceKind::Query, PlaceKind::Header, PlaceKind::Body];
        let looked: Vec<&str> =
            kinds.into_iter().filter(|kind| self.looks_in(*kind)).map(PlaceKind::name).collect();
        let mut words = vec![self.body.describe()];
        words.extend(self.query.is_some().then(|| "query checked".to_owned()));
        words.extend(self.headers.is_some().then(|| "headers checked".to_owned()));
        words.extend((!looked.is_empty()).then(|| format!("attacks in {}", looked.join(", "))));
        words.join("; ")
    }

    /// Looks at a request, head first, and reads its body if something must look into it.
    ///
    /// Waits for nothing but the body, which grows in what is `held`. What rules saw that only watch
    /// goes into `watch`, whatever the outcome.
    ///
    /// # Errors
    /// Any reason of the stage `inspect`, and `client-left` when the connection is lost.
    #[expect(clippy::too_many_arguments, reason = "a request, its proof, and what it is held to")]
    pub async fn inspect(
        &self,
        head: Box<Head>,
        body: Body,
        admission: Admission,
        parameters: &Parameters,
        held: Held,
        watch: &mut Observed,
    ) -> Result<Cleared, Refusal> {
        self.look_at_head(&head, parameters, watch)?;
        let covered = admission.permit().principal().digest_covered();
        let (body, held) = self.take_body(&head, body, covered, held, watch).await?;
        Ok(Cleared { head, body, admission, held })
    }

    /// Everything that needs no body.
    fn look_at_head(
        &self,
        head: &Head,
        parameters: &Parameters,
        watch: &mut Observed,
    ) -> Result<(), Refusal> {
        if let Some(headers) = &self.headers {
            headers.check(&head.headers)?;
        }
        if let Some(query) = &self.query {
            query.check(head.query.as_deref())?;
        }
        if let Some(examine) = &self.examine {
            let mut look = Look { examine: &**examine, observed: watch };
            look.path(&head.path, parameters)?;
            look.query(head.query.as_deref())?;
            look.headers(&head.headers)?;
        }
        Ok(())
    }

    /// Reads the body whole if something must look into it, and otherwise lets it pass, counted.
    async fn take_body(
        &self,
        head: &Head,
        body: Body,
        covered: bool,
        mut held: Held,
        watch: &mut Observed,
    ) -> Result<(Body, Held), Refusal> {
        if head.length == Length::None || matches!(&body, Body::Empty) {
            self.body.absent()?;
            self.check_digest(head, covered, &[])?;
            return Ok((Body::Empty, held));
        }
        let media = self.body.announced(head, self.examine_body)?;
        let kind = media.as_ref().map_or(Kind::Opaque, Media::kind);
        let looks = self.examine_body && kind != Kind::Opaque;
        let strict = self.body.json().is_some() && kind == Kind::Json;
        if !(covered || self.body.demands_digest() || looks || strict) {
            let body = pass::limited(body, self.body.bytes_max())
                .map_err(|refusal| self.body.by_rule(refusal))?;
            return Ok((body, held));
        }
        let bytes = gather::whole(body, head.length, self.body.bytes_max(), &mut held, drop)
            .await
            .map_err(|refusal| self.body.by_rule(refusal))?;
        self.check_digest(head, covered || self.body.demands_digest(), &bytes)?;
        if bytes.is_empty() {
            self.body.absent()?;
            return Ok((Body::Empty, held));
        }
        self.look_at_body(media.as_ref(), &bytes, watch)?;
        Ok((Body::Whole(bytes), held))
    }

    /// Compares a body with its digest, if it has one.
    fn check_digest(&self, head: &Head, demanded: bool, body: &[u8]) -> Result<(), Refusal> {
        let refuse = |reason| self.body.refuse(reason);
        match Expected::from_headers(&head.headers).map_err(refuse)? {
            Some(expected) => expected.verify(body).map_err(refuse),
            None if demanded => Err(refuse(Reason::DigestMissing)),
            None => Ok(()),
        }
    }

    /// Everything that needs the whole body.
    fn look_at_body(
        &self,
        media: Option<&Media>,
        body: &Bytes,
        watch: &mut Observed,
    ) -> Result<(), Refusal> {
        let Some(media) = media else { return Ok(()) };
        let examine = self.examine.as_ref().filter(|_| self.examine_body);
        let mut look = examine.map(|examine| Look { examine: &**examine, observed: watch });
        if media.kind() == Kind::Json {
            return match &mut look {
                Some(look) => self.body.check_json(body, look),
                None if self.body.json().is_some() => self.body.check_json(body, &mut ()),
                None => Ok(()),
            };
        }
        match &mut look {
            Some(look) => look.body(media, body).map_err(|refusal| self.body.by_rule(refusal)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
impl Cleared {
    /// A cleared request for tests of later stages.
    pub(crate) fn for_tests(head: Head, body: Body, admission: Admission) -> Self {
        let held = crate::listen::room::Room::new(crate::units::Size(0)).hold();
        Self { head: Box::new(head), body, admission, held }
    }
}
