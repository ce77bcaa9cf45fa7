//! What each stage costs: nanoseconds and allocations for each call, over the policies of `peers/`.
//!
//! `cargo bench --bench stages -- [FILTER] [--keys N] [--calls N]`. With `--calls` each stage runs so often
//! and no longer, for tools that count instructions; all that counts happens within `timed`.
//!
//! As a test (`cargo test --bench stages`) it holds the allocations of each call against `budgets.toml`.
#![expect(unsafe_code, reason = "an allocator is unsafe to write, and only one can count")]
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program for the terminal, which may stop"
)]

mod ground;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, StatusCode, Version};
use http_body::Body as _;
use portcullis::authenticate::directory::Directory;
use portcullis::authenticate::directory::record::NewKey;
use portcullis::authenticate::nonce::Nonces;
use portcullis::authenticate::outside::Outside;
use portcullis::authenticate::signature::algorithm::Algorithm;
use portcullis::authenticate::signature::base::Message;
use portcullis::authenticate::signature::public_key::PublicKey;
use portcullis::authenticate::signature::sign::{Terms, ToSign, sign_with};
use portcullis::clock::{Clock, Hand, Now};
use portcullis::fields::Fields;
use portcullis::forward::sender::{Canned, Sender};
use portcullis::gateway::{Gateway, Shared};
use portcullis::head::bans::Bans;
use portcullis::head::{self, Head, RequestId};
use portcullis::inspect::Observed;
use portcullis::inspect::json;
use portcullis::limit::Admission;
use portcullis::limit::buckets::Buckets;
use portcullis::listen::body::Body;
use portcullis::listen::room::Room;
use portcullis::listen::{Arrival, Handler, Length, Peer, RawHead, TlsFacts};
use portcullis::mistake::Mistakes;
use portcullis::mistake::source::Source;
use portcullis::policy::Policy;
use portcullis::policy::compile::Ground;
use portcullis::policy::files::Files;
use portcullis::policy::route::Route;
use portcullis::record::Record;
use portcullis::record::meters::AnsweredBy;
use portcullis::refusal::{Reason, Refusal, Stage};
use portcullis::respond::{self, Facts, body::Shape};
use portcullis::route::Parameters;
use portcullis::secret::Secret;
use portcullis::store::Store;
use portcullis::units::Size;
use ring::digest::{SHA256, digest};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair as _, UnparsedPublicKey, VerificationAlgorithm,
};

use crate::ground::{COUNTED, peer, policy, record, upstreams};

/// The key that the policies of `peers/` know.
const KEY: &str = "a-key-that-only-measures";
/// Inputs that are made ready before a measured batch.
const BATCH: usize = 256;
/// How long a stage is measured.
const SPAN: Duration = Duration::from_millis(400);
/// Bodies held at a time.
const ROOM: Size = Size(256 << 20);

// ---- counting ----------------------------------------------------------------------------------

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Bytes that all threads hold together: what one allocates another may keep.
static HELD: AtomicI64 = AtomicI64::new(0);

fn count(bytes: usize, sign: i64) {
    // While a thread ends there is nothing left to count with.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + u64::from(sign > 0)));
    HELD.fetch_add(sign * i64::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
}

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// ---- running -----------------------------------------------------------------------------------

/// What the instructions of a call may be beyond their budget: processors differ in the widest copy that
/// they offer.
const SLACK: f64 = 1.15;

/// What was asked for on the command line.
struct Bench {
    filter: Option<String>,
    calls: Option<usize>,
    keys: usize,
    /// As a test: how many allocations each call may make; counted, how many instructions.
    budgets: Option<BTreeMap<String, f64>>,
    /// Whether callgrind counts this run.
    counted: bool,
    over: Cell<bool>,
}

/// What calls may cost, as `budgets.toml` has it.
#[derive(serde::Deserialize)]
struct Budgets {
    allocations: BTreeMap<String, f64>,
    instructions: BTreeMap<String, f64>,
}

impl Budgets {
    fn read() -> Self {
        toml::from_str(include_str!("budgets.toml")).unwrap()
    }
}

impl Bench {
    fn asked() -> Self {
        let mut bench = Self {
            filter: None,
            calls: None,
            keys: 1_000_000,
            budgets: None,
            counted: false,
            over: Cell::new(false),
        };
        // `cargo bench` says so; without it and without a number of calls this is a test.
        let mut is_test = true;
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--bench" => is_test = false,
                COUNTED => bench.counted = true,
                "--calls" => {
                    is_test = false;
                    bench.calls = words.next().and_then(|word| word.parse().ok());
                }
                "--keys" => {
                    bench.keys =
                        words.next().and_then(|word| word.parse().ok()).unwrap_or(bench.keys)
                }
                _ if word.starts_with("--") => {}
                _ => bench.filter = Some(word),
            }
        }
        if is_test {
            let budgets = Budgets::read();
            let counted = bench.counted;
            bench.budgets = Some(if counted { budgets.instructions } else { budgets.allocations });
            bench.calls = Some(BATCH);
            bench.keys = 1_000;
        }
        bench
    }

    fn wants(&self, name: &str) -> bool {
        self.filter.as_deref().is_none_or(|filter| name.contains(filter))
            && self.budgets.as_ref().is_none_or(|budgets| budgets.contains_key(name))
    }

    /// Holds the allocations of a call against its budget. What is saved must be given back, lest the
    /// budget hide the next growth.
    fn check(&self, name: &str, allocations: f64) {
        let Some(budget) = self.budgets.as_ref().and_then(|budgets| budgets.get(name)) else {
            return;
        };
        if (allocations - budget).abs() > 0.5 {
            println!(
                "{name}: {allocations:.1} allocations a call; benches/budgets.toml says {budget}"
            );
            self.over.set(true);
        }
    }

    /// Measures one call, again and again; what `input` does is not measured, dropping what comes out is.
    fn stage<I, O>(&self, name: &str, input: impl FnMut() -> I, mut call: impl FnMut(I) -> O) {
        self.measure(name, input, |inputs| timed(inputs, &mut call));
    }

    /// As [`Bench::stage`], of a call that only looks: dropping its input is not measured either.
    fn look<I, O>(&self, name: &str, input: impl FnMut() -> I, mut call: impl FnMut(&I) -> O) {
        self.measure(name, input, |inputs| timed(&inputs, &mut call));
    }

    fn measure<I>(
        &self,
        name: &str,
        mut input: impl FnMut() -> I,
        mut run: impl FnMut(Vec<I>) -> Duration,
    ) {
        if !self.wants(name) {
            return;
        }
        let mut batches: Vec<(f64, f64)> = Vec::new();
        let mut spent = Duration::ZERO;
        let mut done = 0;
        run((0..BATCH).map(|_| input()).collect());
        while self.calls.map_or(spent < SPAN, |calls| done < calls) {
            let inputs: Vec<I> = (0..BATCH).map(|_| input()).collect();
            let before = ALLOCATIONS.get();
            let took = run(inputs);
            let allocations = ALLOCATIONS.get() - before;
            batches
                .push((took.as_nanos() as f64 / BATCH as f64, allocations as f64 / BATCH as f64));
            spent += took;
            done += BATCH;
        }
        batches.sort_by(|a, b| a.0.total_cmp(&b.0));
        let at =
            |part: usize| batches.get((batches.len() - 1) * part / 10).copied().unwrap_or_default();
        match self.budgets {
            // The parent takes the names in the order in which callgrind's files come.
            Some(_) if self.counted => println!("{name}"),
            Some(_) => self.check(name, at(5).1),
            None => println!("| {name} | {:.0} | {:.0} | {:.1} |", at(5).0, at(0).0, at(5).1),
        }
    }
}

/// The one place that counts.
#[inline(never)]
#[expect(clippy::disallowed_methods, reason = "durations of the measurement itself")]
fn timed<I, O>(inputs: impl IntoIterator<Item = I>, call: &mut impl FnMut(I) -> O) -> Duration {
    let started = Instant::now();
    for input in inputs {
        drop(black_box(call(black_box(input))));
    }
    started.elapsed()
}

/// The result of a future that waits for nothing.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("nothing here waits"),
    }
}

// ---- a gateway without sockets -----------------------------------------------------------------

struct Bed {
    clock: Clock,
    hand: Hand,
    record: Arc<Record>,
    directory: Arc<Directory>,
    policy: Arc<Policy>,
    peer: Arc<Peer>,
    room: Arc<Room>,
}

impl Bed {
    /// A policy directory of `peers/`, compiled over a directory of its own.
    fn of(policy: &str) -> Self {
        let directory = Directory::in_memory(&Secret::random(32).unwrap(), "dev").unwrap();
        directory.import([KEY], &wish(), Clock::system().now()).unwrap();
        let dir =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/portcullis").join(policy);
        let mut mistakes = Mistakes::default();
        let files = Files::read(&dir, &mut mistakes);
        Self::over(&files, directory)
    }

    fn over(files: &Files, directory: Directory) -> Self {
        Self::with(files, directory, &Outside::new(Arc::new(|_| Err(String::new()))))
    }

    fn with(files: &Files, directory: Directory, outside: &Outside) -> Self {
        let (clock, hand) = Clock::set_at(Clock::system().now().unix_ms);
        let record = record(&clock);
        let directory = Arc::new(directory);
        let ground = Ground {
            upstreams: upstreams("tasks"),
            directory: Arc::clone(&directory),
            nonces: Arc::new(Nonces::with_history(50_000_000)),
            outside: outside.clone(),
            buckets: Arc::new(Buckets::new(1_000_000)),
            record: Arc::clone(&record),
            clock: clock.clone(),
        };
        let peer = peer(Some(TlsFacts {
            server_name: Some("localhost".into()),
            version: "TLSv1.3",
            certificate: None,
            name_binds: false,
        }));
        let room = Room::new(ROOM);
        Self { clock, hand, record, directory, policy: policy(files, &ground), peer, room }
    }

    /// The next moment. Time goes by the call and not by the clock, so that no budget is ever empty.
    fn now(&self) -> Now {
        self.hand.advance(Duration::from_millis(1));
        self.clock.now()
    }

    fn head(&self, raw: RawHead) -> Head {
        *head::read(raw, &self.peer, &[], self.now()).unwrap()
    }

    fn find(&self, head: &Head) -> (&Route, Parameters) {
        self.policy.find(head).unwrap()
    }

    /// A request that has come as far as its budgets.
    fn admitted(&self, raw: RawHead) -> (Head, Admission) {
        let head = self.head(raw);
        let (route, parameters) = self.find(&head);
        let principal = route.authenticate.who(&head, self.now()).unwrap();
        let permit = route.doors.allow(principal, &head, &parameters, self.now()).unwrap();
        let admission = route.budgets.spend(permit, &head, self.now()).unwrap();
        (head, admission)
    }

    /// The whole gateway, with an upstream that always has this answer.
    fn gateway(&self) -> Gateway {
        let shared = Shared {
            clock: self.clock.clone(),
            policy: Arc::new(ArcSwap::new(Arc::clone(&self.policy))),
            record: Arc::clone(&self.record),
            bans: Arc::new(Bans::default()),
            room: Arc::clone(&self.room),
        };
        let headers =
            Fields::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let canned =
            Canned { status: StatusCode::OK, headers, body: Bytes::from_static(b"{\"items\":[]}") };
        let listener = self.record.metrics().listener("public");
        Gateway::new(Arc::new(shared), Arc::new(Sender::canned(canned)), listener)
    }
}

fn wish() -> NewKey {
    NewKey {
        name: "load".into(),
        subject: "load".into(),
        roles: vec!["member".into()],
        scopes: vec!["tasks:read".into(), "tasks:write".into()],
        ..NewKey::default()
    }
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap()
}

fn get(target: &str, key: Option<&str>) -> RawHead {
    let mut headers = Fields::new();
    headers.insert(HOST, value("localhost"));
    headers.insert(USER_AGENT, value("stages/1"));
    headers.insert(ACCEPT, value("application/json"));
    if let Some(key) = key {
        headers.insert(AUTHORIZATION, value(&format!("Bearer {key}")));
    }
    RawHead {
        method: Method::GET,
        target: target.into(),
        version: Version::HTTP_11,
        authority: None,
        headers,
        length: Length::None,
    }
}

fn post(target: &str, body: &Bytes) -> RawHead {
    let mut raw = get(target, Some(KEY));
    raw.method = Method::POST;
    raw.headers.insert(CONTENT_TYPE, value("application/json"));
    raw.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    raw.length = Length::Exactly(body.len() as u64);
    raw
}

/// A task of so many bytes.
fn task(bytes: usize) -> Bytes {
    let start = r#"{"title":"Prepare the weekly report","priority":"HIGH","tags":["work","weekly"],"description":""#;
    let words =
        "review the open items and send a short summary to the team ".repeat(bytes / 50 + 1);
    let words = words.get(..bytes - start.len() - 2).unwrap();
    Bytes::from(format!("{start}{words}\"}}"))
}

// ---- the stages --------------------------------------------------------------------------------

fn main() {
    let bench = Bench::asked();
    if bench.budgets.is_none() {
        println!("| call | ns, median | ns, best | allocations |\n|---|---|---|---|");
    }
    heads(&bench);
    routes(&bench);
    keys(&bench);
    signatures(&bench);
    tokens(&bench);
    introspected(&bench);
    budgets(&bench);
    inspections(&bench);
    answers(&bench);
    whole(&bench);
    if bench.budgets.is_some() && !bench.counted && bench.filter.is_none() {
        instructions(&bench);
    }
    assert!(!bench.over.get(), "see above; where more is right, say why and write it down");
}

/// Runs this program once more under callgrind and holds the instructions of each call against its
/// budget. They are those of a build without optimisation: what they tell is growth.
fn instructions(bench: &Bench) {
    if !cfg!(target_os = "linux") {
        println!("SKIPPED: instructions are not counted; valgrind is for Linux");
        return;
    }
    let (told, totals) = ground::counted("stages::timed");
    let budgets = Budgets::read().instructions;
    let names: Vec<&str> = told.lines().filter(|line| budgets.contains_key(*line)).collect();
    assert_eq!(names.len(), budgets.len(), "each budget names a call");
    assert_eq!(totals.len(), 2 * names.len(), "a batch to warm up and one that counts, of each");
    println!("| call | instructions | budget |\n|---|---|---|");
    for (name, counts) in names.iter().zip(totals.chunks_exact(2)) {
        let (&count, &budget) = (counts.last().unwrap(), budgets.get(*name).unwrap());
        let count = count as f64 / BATCH as f64;
        println!("| {name} | {count:.0} | {budget} |");
        if count > budget * SLACK {
            println!("{name}: {count:.0} instructions a call; benches/budgets.toml says {budget}");
            bench.over.set(true);
        } else if count * SLACK < budget {
            println!(
                "{name}: only {count:.0} instructions a call; write it into benches/budgets.toml"
            );
        }
    }
}

fn heads(bench: &Bench) {
    let bed = Bed::of("full");
    let now = bed.now();
    let make = || get("/api/tasks", Some(KEY));
    bench.stage("head: read, GET", make, |raw| head::read(raw, &bed.peer, &[], now).unwrap());
    let body = task(1024);
    let make = || post("/api/tasks?status=open&sort=priority&page=2", &body);
    bench.stage("head: read, POST with a query", make, |raw| {
        head::read(raw, &bed.peer, &[], now).unwrap()
    });
}

fn routes(bench: &Bench) {
    for count in [10, 10_000] {
        let name = format!("route: find, {count} routes");
        if !bench.wants(&name) {
            continue;
        }
        let bed = many_routes(count);
        let last = format!("/v1/kind{}/task_1", count - 1);
        let heads: Vec<Head> = (0..BATCH).map(|_| bed.head(get(&last, None))).collect();
        let mut turn = heads.iter().cycle();
        bench.stage(&name, || turn.next().unwrap(), |head| bed.policy.find(head).unwrap().0.number);
    }
}

/// A policy of so many routes, each with a parameter; tells how long compiling it took.
#[expect(clippy::disallowed_methods, reason = "durations of the measurement itself")]
fn many_routes(count: usize) -> Bed {
    let mut text = String::from(
        "version = 1\nname = \"many\"\n[defaults]\nauth = \"none\"\nfilter = \"none\"\n",
    );
    for number in 0..count {
        text.push_str(&format!(
            "[routes.r{number}]\nsummary = \"One\"\nmatch = \"GET /v1/kind{number}/{{id}}\"\nupstream = \"tasks\"\n"
        ));
    }
    let files =
        Files { dir: ".".into(), sources: vec![Source::new("many.toml", text)], hash: "0".into() };
    let directory = Directory::in_memory(&Secret::random(32).unwrap(), "dev").unwrap();
    let started = Instant::now();
    let bed = Bed::over(&files, directory);
    println!("| policy: compile {count} routes, once | {} | | |", started.elapsed().as_nanos());
    bed
}

#[expect(clippy::disallowed_methods, reason = "durations of the measurement itself")]
fn keys(bench: &Bench) {
    let (known, unknown) =
        (format!("authenticate: one of {} keys", bench.keys), "authenticate: an unknown key");
    if !bench.wants(&known) && !bench.wants(unknown) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (master, pepper) = (Secret::random(32).unwrap(), Secret::random(32).unwrap());
    let store = Arc::new(Store::open(dir.path(), &master).unwrap());
    let key = |number: usize| {
        format!("k{:039x}", (number as u128 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_0C95))
    };
    {
        let directory = Directory::open(Arc::clone(&store), &pepper, "dev").unwrap();
        let texts: Vec<String> = (0..bench.keys).map(key).collect();
        directory.import(texts.iter().map(String::as_str), &wish(), Clock::system().now()).unwrap();
    }
    drop(store);
    // What the store itself holds is there before the directory is; what is read of it stays in its cache, so
    // the directory is filled twice and only the second filling counted.
    let store = Arc::new(Store::open(dir.path(), &master).unwrap());
    drop(Directory::open(Arc::clone(&store), &pepper, "dev").unwrap());
    let before = HELD.load(Ordering::Relaxed);
    let started = Instant::now();
    let directory = Directory::open(store, &pepper, "dev").unwrap();
    println!(
        "| authenticate: load {} keys, once | {} | | |",
        bench.keys,
        started.elapsed().as_nanos()
    );
    println!(
        "| authenticate: bytes of memory for each key | {} | | |",
        (HELD.load(Ordering::Relaxed) - before) / bench.keys as i64
    );
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/portcullis/full");
    let bed = Bed::over(&Files::read(&dir, &mut Mistakes::default()), directory);
    let now = bed.now();
    let head = bed.head(get("/api/tasks", None));
    let (route, _) = bed.find(&head);
    let mut number: usize = 0;
    let mut next = || {
        number = (number + 7_919) % bench.keys;
        bed.head(get("/api/tasks", Some(&key(number))))
    };
    bench.look(&known, &mut next, |head| route.authenticate.who(head, now).map(drop).unwrap());
    let next = || bed.head(get("/api/tasks", Some("a-key-that-nobody-holds")));
    bench.look(unknown, next, |head| route.authenticate.who(head, now).map(drop).unwrap_err());
    let mac = hmac::Key::new(hmac::HMAC_SHA256, pepper.expose());
    let text = key(0);
    let primitive = format!("primitive: the hash of a key, {} bytes", text.len());
    bench.stage(&primitive, || (), |()| hmac::sign(&mac, text.as_bytes()));
}

/// Makes the signature of a base.
type By<'a> = Box<dyn Fn(&[u8]) -> Vec<u8> + 'a>;
/// Verifies one, with the primitive and nothing else.
type Alone<'a> = Box<dyn Fn(&[u8], &[u8]) + 'a>;

/// Each algorithm: a whole request by the scheme, the primitive alone over the same base, and a
/// request by a key that nobody knows.
fn signatures(bench: &Bench) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("policy.toml"), SIGNED).unwrap();
    let directory = Directory::in_memory(&Secret::random(32).unwrap(), "dev").unwrap();
    let bed = Bed::over(&Files::read(dir.path(), &mut Mistakes::default()), directory);
    let random = SystemRandom::new();
    let made = bed.directory.create_signing(wish(), bed.now()).unwrap();
    let secret = STANDARD.decode(made.secret.expose()).unwrap();
    let mac = &hmac::Key::new(hmac::HMAC_SHA256, &secret);
    let ed25519 = &Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let p256 = &EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random)
        .unwrap();
    let taken = |algorithm, key: &[u8]| {
        let key = PublicKey::read(algorithm, &STANDARD.encode(key)).unwrap();
        bed.directory.create_verifying(wish(), key, bed.now()).unwrap().to_string()
    };
    let (of_ed25519, of_p256) = (ed25519.public_key().as_ref(), p256.public_key().as_ref());
    let alone = |by: &'static dyn VerificationAlgorithm, key: &'static [u8]| -> Alone<'static> {
        Box::new(move |base, signature| {
            UnparsedPublicKey::new(by, key).verify(base, signature).unwrap();
        })
    };
    let algorithms: [(Algorithm, String, By<'_>, Alone<'_>); 3] = [
        (
            Algorithm::HmacSha256,
            made.id.to_string(),
            Box::new(|base| hmac::sign(mac, base).as_ref().to_vec()),
            Box::new(|base, signature| hmac::verify(mac, base, signature).unwrap()),
        ),
        (
            Algorithm::Ed25519,
            taken(Algorithm::Ed25519, of_ed25519),
            Box::new(|base| ed25519.sign(base).as_ref().to_vec()),
            alone(&ED25519, of_ed25519.to_vec().leak()),
        ),
        (
            Algorithm::EcdsaP256Sha256,
            taken(Algorithm::EcdsaP256Sha256, of_p256),
            Box::new(|base| p256.sign(&random, base).unwrap().as_ref().to_vec()),
            alone(&ECDSA_P256_SHA256_FIXED, of_p256.to_vec().leak()),
        ),
    ];
    for (algorithm, keyid, by, alone) in &algorithms {
        signatures_by(bench, &bed, (*algorithm, keyid, by), alone);
    }
}

fn signatures_by(
    bench: &Bench,
    bed: &Bed,
    (algorithm, keyid, by): (Algorithm, &str, &By<'_>),
    alone: &Alone<'_>,
) {
    let name = algorithm.name();
    let number = Cell::new(0_u64);
    let signed = |target: &str, keyid: &str| {
        let mut head = bed.head(get(target, None));
        number.set(number.get() + 1);
        let nonce = format!("nonce-{:016x}", number.get());
        let terms = Terms {
            label: "sig1",
            components: &["@method", "@authority", "@path", "@query", "@target-uri", "@scheme"],
            keyid,
            created: bed.now().unix_s(),
            expires: None,
            nonce: Some(nonce.as_str()).filter(|_| target == "/once"),
            tag: None,
        };
        let request = ToSign { message: Message::of(&head), body: &[] };
        let headers = sign_with(&request, &terms, algorithm, |base| Ok(by(base))).unwrap();
        head.headers
            .insert(HeaderName::from_static("signature-input"), value(&headers.signature_input));
        head.headers.insert(HeaderName::from_static("signature"), value(&headers.signature));
        (head, headers.base)
    };
    let (once, _) = bed.find(&bed.head(get("/once", None)));
    let (again, _) = bed.find(&bed.head(get("/again", None)));
    bench.look(
        &format!("authenticate: {name}"),
        || signed("/again", keyid).0,
        |head| again.authenticate.who(head, bed.now()).map(drop).unwrap(),
    );
    bench.look(
        &format!("authenticate: {name} with nonce"),
        || signed("/once", keyid).0,
        |head| once.authenticate.who(head, bed.now()).map(drop).unwrap(),
    );
    bench.look(
        &format!("authenticate: {name}, an unknown key"),
        || signed("/once", "nobody00").0,
        |head| once.authenticate.who(head, bed.now()).map(drop).unwrap_err(),
    );
    for target in ["/again", "/once"] {
        let base = signed(target, keyid).1.into_bytes();
        let signature = by(&base);
        let primitive = format!("primitive: {name} over {} bytes", base.len());
        bench.stage(&primitive, || (), |()| alone(&base, &signature));
    }
}

const SIGNED: &str = r#"
version = 1

[scopes]
"tasks:read" = "Read tasks"

[signatures.once]
components = ["@method", "@authority", "@path", "@query", "@target-uri", "@scheme"]
nonce      = "required"

[signatures.again]
components = ["@method", "@authority", "@path", "@query", "@target-uri", "@scheme"]
nonce      = "optional"

[routes.once]
summary  = "Each nonce once"
match    = "GET /once"
upstream = "tasks"
auth     = { any = ["signature.once"] }
allow    = [{ scopes = ["tasks:read"] }]

[routes.again]
summary  = "Without a nonce"
match    = "GET /again"
upstream = "tasks"
auth     = { any = ["signature.again"] }
allow    = [{ scopes = ["tasks:read"] }]
"#;

/// Tokens by both curves, verified each time and found in the cache, beside what the primitives cost.
fn tokens(bench: &Bench) {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let es = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random);
    let (es, pkcs8) = (es.unwrap(), Ed25519KeyPair::generate_pkcs8(&random).unwrap());
    let ed = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    let (es_public, ed_public) = (es.public_key().as_ref(), ed.public_key().as_ref());
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let (x, y) = es_public.split_at(1).1.split_at(32);
    let keys = serde_json::json!({ "keys": [
        { "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) },
        { "kty": "OKP", "crv": "Ed25519", "x": encode(ed_public) },
    ]});
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("keys.json"), keys.to_string()).unwrap();
    std::fs::write(dir.path().join("policy.toml"), TOKENS).unwrap();
    let directory = Directory::in_memory(&Secret::random(32).unwrap(), "dev").unwrap();
    let bed = Bed::over(&Files::read(dir.path(), &mut Mistakes::default()), directory);
    let now = bed.now();
    let claims = serde_json::json!({
        "iss": "https://id.example.com", "aud": "https://api.example.com", "sub": "u-0123456789", "jti": "0123456789abcdef",
        "iat": now.unix_s(), "exp": now.unix_s() + 3600, "scope": "tasks:read tasks:write", "client_id": "0123456789",
    });
    let signed = |alg: &str| {
        let header = serde_json::json!({ "alg": alg, "typ": "at+jwt" });
        format!(
            "{}.{}",
            encode(header.to_string().as_bytes()),
            encode(claims.to_string().as_bytes())
        )
    };
    let (by_es, by_ed) = (signed("ES256"), signed("EdDSA"));
    let es_signature = es.sign(&random, by_es.as_bytes()).unwrap();
    let ed_signature = ed.sign(by_ed.as_bytes());
    let of_es = format!("{by_es}.{}", encode(es_signature.as_ref()));
    let of_ed = format!("{by_ed}.{}", encode(ed_signature.as_ref()));
    for (name, path, token) in [
        ("authenticate: a token, ES256", "/fresh", &of_es),
        ("authenticate: a token, EdDSA", "/fresh", &of_ed),
        ("authenticate: a token seen before", "/cached", &of_es),
    ] {
        let (route, _) = bed.find(&bed.head(get(path, Some(token))));
        bench.look(
            name,
            || bed.head(get(path, Some(token))),
            |head| route.authenticate.who(head, now).map(drop).unwrap(),
        );
    }
    let es_key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, es_public);
    let ed_key = UnparsedPublicKey::new(&ED25519, ed_public);
    bench.stage(
        "primitive: ES256 verification",
        || (),
        |()| es_key.verify(by_es.as_bytes(), es_signature.as_ref()).unwrap(),
    );
    bench.stage(
        "primitive: EdDSA verification",
        || (),
        |()| ed_key.verify(by_ed.as_bytes(), ed_signature.as_ref()).unwrap(),
    );
    bench.stage("primitive: SHA-256 of a token", || (), |()| digest(&SHA256, of_es.as_bytes()));
}

const TOKENS: &str = r#"
version = 1

[scopes]
"tasks:read" = "Read tasks"

[jwt.fresh]
issuer   = "https://id.example.com"
audience = ["https://api.example.com"]
keys     = "file:keys.json"
cache    = 0

[jwt.cached]
issuer   = "https://id.example.com"
audience = ["https://api.example.com"]
keys     = "file:keys.json"

[routes.fresh]
summary  = "Verified each time"
match    = "GET /fresh"
upstream = "tasks"
auth     = { any = ["jwt.fresh"] }
allow    = [{ scopes = ["tasks:read"] }]

[routes.cached]
summary  = "Verified once"
match    = "GET /cached"
upstream = "tasks"
auth     = { any = ["jwt.cached"] }
allow    = [{ scopes = ["tasks:read"] }]
"#;

/// A token that only its issuer can read, whose answer is in memory: one request asks it, of a server
/// that answers once, and all that are measured find what it said.
fn introspected(bench: &Bench) {
    let name = "authenticate: an introspected token seen before";
    if !bench.wants(name) {
        return;
    }
    let issuer = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = issuer.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let text = INTROSPECTED.replace("ADDRESS", &address.to_string());
    std::fs::write(dir.path().join("policy.toml"), text).unwrap();
    let outside = Outside::new(Arc::new(|_| Ok(Secret::new(b"a secret of the gateway".to_vec()))));
    let directory = Directory::in_memory(&Secret::random(32).unwrap(), "dev").unwrap();
    let files = Files::read(dir.path(), &mut Mistakes::default());
    let bed = Bed::with(&files, directory, &outside);
    let now = bed.now();
    let answer = serde_json::json!({
        "active": true, "sub": "u-0123456789", "aud": "https://api.example.com",
        "scope": "tasks:read", "exp": now.unix_s() + 3600,
    });
    let answers = std::thread::spawn(move || answer_once(&issuer, &answer.to_string()));
    // As long as the signed token that is measured.
    let token = "0123456789abcdef".repeat(28);
    let head = || bed.head(get("/opaque", Some(&token)));
    let first = head();
    let (route, _) = bed.find(&first);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let unread = (&mut Body::Empty, &bed.room);
    runtime.block_on(async {
        let errands = outside.errands.clone().run(std::future::pending());
        tokio::select! {
            asked = route.authenticate.identify(&first, unread, now) => drop(asked.unwrap()),
            () = errands => {}
        }
    });
    answers.join().unwrap();
    bench.look(name, head, |head| route.authenticate.who(head, now).map(drop).unwrap());
    let primitive = format!("primitive: SHA-256 of {} bytes", token.len());
    bench.stage(&primitive, || (), |()| digest(&SHA256, token.as_bytes()));
}

/// Reads one request and answers it with this JSON.
fn answer_once(listener: &TcpListener, json: &str) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut read = Vec::new();
    while !read.windows(16).any(|bytes| bytes == b"token_type_hint=") {
        let mut piece = [0; 4096];
        let length = stream.read(&mut piece).unwrap();
        read.extend_from_slice(piece.get(..length).unwrap());
    }
    let length = json.len();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
    stream
        .write_all(format!("{head}\r\ncontent-length: {length}\r\n\r\n{json}").as_bytes())
        .unwrap();
}

const INTROSPECTED: &str = r#"
version = 1

[scopes]
"tasks:read" = "Read tasks"

[introspection.main]
endpoint      = "http://ADDRESS/introspect"
reachable     = ["127.0.0.0/8"]
client_id     = "gate"
client_secret = "env:SECRET"
audience      = ["https://api.example.com"]

[routes.opaque]
summary  = "Asked about once"
match    = "GET /opaque"
upstream = "tasks"
auth     = { any = ["introspection.main"] }
allow    = [{ scopes = ["tasks:read"] }]
"#;

fn budgets(bench: &Bench) {
    let bed = Bed::of("full");
    let example = bed.head(get("/api/tasks", Some(KEY)));
    let (route, parameters) = bed.find(&example);
    let now = bed.now();
    let principals = || route.authenticate.who(&example, now).unwrap();
    bench.stage("authorize: scopes", principals, |principal| {
        route.doors.allow(principal, &example, &parameters, now).unwrap()
    });
    bench.stage(
        "limit: the address",
        || bed.now(),
        |now| bed.policy.address().spend(example.parties.client, now).unwrap(),
    );
    let permits = || {
        let principal = route.authenticate.who(&example, now).unwrap();
        (route.doors.allow(principal, &example, &parameters, now).unwrap(), bed.now())
    };
    bench.stage("limit: three budgets", permits, |(permit, now)| {
        route.budgets.spend(permit, &example, now).unwrap()
    });
}

fn inspections(bench: &Bench) {
    let bed = Bed::of("full");
    let body = task(1024);
    let limits = json::rule::Limits::default();
    bench.stage(
        "inspect: strict JSON of 1 KiB",
        || (),
        |()| json::check(&body, &limits, &mut ()).unwrap(),
    );
    for (name, raw) in [
        ("inspect: GET, head only", &(|| get("/api/tasks", Some(KEY))) as &dyn Fn() -> RawHead),
        ("inspect: 1 KiB, JSON, schema, detectors", &|| post("/api/tasks", &body)),
    ] {
        let example = bed.head(raw());
        let (route, parameters) = bed.find(&example);
        let body =
            || if example.length == Length::None { Body::Empty } else { Body::Whole(body.clone()) };
        bench.stage(
            name,
            || bed.admitted(raw()),
            |(head, admission)| {
                let mut watch = Observed::default();
                at_once(route.filters.inspect(
                    Box::new(head),
                    body(),
                    admission,
                    &parameters,
                    bed.room.hold(),
                    &mut watch,
                ))
                .unwrap()
            },
        );
    }
}

fn answers(bench: &Bench) {
    let bed = Bed::of("full");
    let facts = Facts {
        id: RequestId::new(bed.now()),
        tls: true,
        authenticated: false,
        retires_s: None,
        dpop_nonce: None,
        origin: None,
        shape: Shape::default(),
        budget: None,
    };
    let rules = bed.policy.unmatched_rules();
    for reason in [Reason::CredentialMissing, Reason::ScopeMissing] {
        let refusals = || Refusal::new(reason);
        bench.stage(
            &format!("respond: refuse, {}", reason.status().as_str()),
            refusals,
            |refusal| {
                respond::refuse(&refusal, &facts, bed.policy.challenge(None, reason, false), rules)
            },
        );
    }
    let head = bed.head(get("/api/tasks", Some(KEY)));
    let (route, _) = bed.find(&head);
    let listener = bed.record.metrics().listener("public");
    bench.stage(
        "record: open, tell, close",
        || bed.now(),
        |now| {
            let mut entry = bed.record.open(&bed.peer, &listener, bed.policy.hash(), now);
            entry.headed(&head);
            entry.passed(Stage::Head, None);
            entry.routed(&route.meters);
            entry.passed(Stage::Route, Some(&route.origin));
            entry.answered(StatusCode::OK, AnsweredBy::Upstream, now);
            drop(entry.with(Body::Empty));
        },
    );
}

/// Everything between the sockets: the whole way of a request, with an upstream that answers at once.
fn whole(bench: &Bench) {
    let body = task(1024);
    for (name, policy, key, body, status) in [
        ("whole: GET, plain", "plain", None, None, StatusCode::OK),
        ("whole: GET, everything on", "full", Some(KEY), None, StatusCode::OK),
        ("whole: POST 1 KiB, everything on", "full", Some(KEY), Some(&body), StatusCode::OK),
        ("whole: 401", "full", Some("a-key-that-nobody-holds"), None, StatusCode::UNAUTHORIZED),
    ] {
        let bed = Bed::of(policy);
        let gateway = bed.gateway();
        let arrivals = || match body.filter(|_| bed.now().unix_ms > 0) {
            None => Arrival::Request(Box::new(get("/api/tasks", key)), Body::Empty),
            Some(body) => {
                Arrival::Request(Box::new(post("/api/tasks", body)), Body::Whole(body.clone()))
            }
        };
        bench.stage(name, arrivals, |arrival| {
            let mut outgoing = at_once(gateway.handle(&bed.peer, arrival));
            assert_eq!(outgoing.response.status, status);
            let mut context = Context::from_waker(Waker::noop());
            while let Poll::Ready(Some(frame)) =
                Pin::new(&mut outgoing.response.body).poll_frame(&mut context)
            {
                frame.unwrap();
            }
        });
    }
}
