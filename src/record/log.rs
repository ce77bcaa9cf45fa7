//! The access log: lines go into a bounded buffer, and one thread writes them out in batches.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::record::account::Account;
use crate::record::line;

/// How many bytes may wait to be written.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// From here on only refusals find room; requests that passed are given up first.
const ALLOWED_BYTES_MAX: usize = WAITING_BYTES_MAX / 4 * 3;
/// A batch of this size is written at once; a smaller one waits for more, but not for long.
const BATCH_BYTES: usize = 64 << 10;
const BATCH_WAIT: Duration = Duration::from_millis(20);
/// How long the end of the process waits for the last batch.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// What the gateway tells of its requests: `[log]` in `gateway.toml`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogRule {
    /// `"json"` (the default), one object a line, or `"text"`, for people.
    #[serde(default)]
    pub format: Format,
    /// The access log: one line for each request.
    #[serde(default)]
    pub access: AccessRule,
}

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// The access log: `access = { to = "stdout", sample_allowed = 1.0 }`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessRule {
    /// `"stdout"` (the default), `"stderr"`, `"file:PATH"`, relative to this file, or `"none"`.
    #[serde(default)]
    pub to: Option<At<String>>,
    /// Which part of the requests that passed is told, from 0 to 1. 1 by default. Refusals are
    /// told always.
    #[serde(default)]
    pub sample_allowed: Option<At<f64>>,
}

/// Where and how the access log is written.
#[derive(Clone, Debug, PartialEq)]
pub struct LogPlan {
    format: Format,
    to: Destination,
    /// Of 2^32.
    sample_allowed: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Destination {
    Stdout,
    Stderr,
    File(PathBuf),
    None,
}

impl LogPlan {
    /// Compiles `[log]`. Files are relative to `base`. Opens nothing yet.
    pub fn compile(rule: &LogRule, base: &Path, reading: &mut Reading<'_>) -> Option<Self> {
        let LogRule { format, access: AccessRule { to, sample_allowed } } = rule;
        let destination = match to.as_ref().map(|to| to.as_str()) {
            None | Some("stdout") => Some(Destination::Stdout),
            Some("stderr") => Some(Destination::Stderr),
            Some("none") => Some(Destination::None),
            Some(other) => match other.strip_prefix("file:").filter(|path| !path.is_empty()) {
                Some(path) => Some(Destination::File(base.join(path))),
                None => {
                    let says = format!("`{other}` is no place for a log");
                    let help = "write \"stdout\", \"stderr\", \"file:PATH\" or \"none\"";
                    let span = to.as_ref().map_or(0..0, |to| to.span.clone());
                    reading.wrong(Code::WrongValue, &span, says, help);
                    None
                }
            },
        };
        let part = sample_allowed.as_ref().map_or(1.0, |part| part.value);
        if !(0.0..=1.0).contains(&part) {
            let says = format!("{part} is no part of the requests");
            let span = sample_allowed.as_ref().map_or(0..0, |part| part.span.clone());
            reading.wrong(Code::WrongValue, &span, says, "write a number from 0 to 1");
            return None;
        }
        let sample_allowed = (part * f64::from(u32::MAX)).round() as u64 + u64::from(part == 1.0);
        Some(Self { format: *format, to: destination?, sample_allowed })
    }

    /// No access log at all.
    pub fn none() -> Self {
        Self { format: Format::Json, to: Destination::None, sample_allowed: 0 }
    }
}

/// The running access log. Dropping it writes out what still waits, for at most two seconds.
#[derive(Debug)]
pub struct Log {
    plan: LogPlan,
    waiting: Arc<Waiting>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Waiting {
    batch: Mutex<Batch>,
    changed: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
    closing: bool,
    closed: bool,
    reopen: bool,
}

thread_local! {
    /// The line that this thread is writing, kept so that none has to be allocated. What a caller
    /// sends is clipped before it gets here, so it never grows far.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Log {
    /// Opens the destination and starts the thread that writes to it.
    ///
    /// # Errors
    /// When the file cannot be opened or the system gives no thread.
    pub fn start(plan: LogPlan) -> io::Result<Self> {
        let waiting = Arc::new(Waiting::default());
        let writer = match open(&plan.to)? {
            None => None,
            Some(out) => {
                let (waiting, to) = (Arc::clone(&waiting), plan.to.clone());
                let run = move || waiting.write_all(out, &to);
                Some(std::thread::Builder::new().name("access-log".into()).spawn(run)?)
            }
        };
        Ok(Self { plan, waiting, writer })
    }

    /// Opens the file anew before the next line, after it was moved away.
    pub fn reopen(&self) {
        self.waiting.lock().reopen = true;
    }

    /// How many records were lost because they could not be written fast enough, or at all.
    pub fn dropped(&self) -> u64 {
        self.waiting.dropped.load(Ordering::Relaxed)
    }

    pub(in crate::record) fn tell(&self, account: &Account) {
        let refused = account.refusal.is_some();
        if self.writer.is_none() || (!refused && !self.is_sampled(account)) {
            return;
        }
        let mut text = LINE.try_with(RefCell::take).unwrap_or_default();
        text.clear();
        match self.plan.format {
            Format::Json => line::json(account, &mut text),
            Format::Text => line::text(account, &mut text),
        }
        self.waiting.push(&text, refused);
        let _ = LINE.try_with(|kept| kept.replace(text));
    }

    fn is_sampled(&self, account: &Account) -> bool {
        let time = account.started.steady_ns ^ account.started.unix_ms.rotate_left(40);
        time.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 < self.plan.sample_allowed
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if self.writer.is_none() {
            return;
        }
        let mut batch = self.waiting.lock();
        batch.closing = true;
        self.waiting.changed.notify_all();
        // A destination that takes nothing any more, such as a full pipe, must not keep the process
        // from ending; its writer ends with the process.
        let unwritten = |batch: &mut Batch| !batch.closed;
        let waited = self.waiting.changed.wait_timeout_while(batch, CLOSE_WAIT, unwritten);
        let (batch, timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
        if timed_out.timed_out() {
            tracing::error!(bytes = batch.bytes.len(), "the access log could not be written out");
        }
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Batch> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line, or counts it as lost. Never waits for the writer's output.
    fn push(&self, line: &[u8], refused: bool) {
        let room = if refused { WAITING_BYTES_MAX } else { ALLOWED_BYTES_MAX };
        let mut batch = self.lock();
        let before = batch.bytes.len();
        if before + line.len() > room {
            drop(batch);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        batch.bytes.extend_from_slice(line);
        batch.lines += 1;
        let after = batch.bytes.len();
        drop(batch);
        // The first line wakes the writer, and then the one that fills a batch. All between cost no
        // system call.
        if before == 0 || (before < BATCH_BYTES && after >= BATCH_BYTES) {
            self.changed.notify_one();
        }
    }

    /// Writes batches until the log closes.
    fn write_all(&self, mut out: Box<dyn Write + Send>, to: &Destination) {
        let mut bytes = Vec::new();
        loop {
            let idle = |batch: &mut Batch| batch.bytes.is_empty() && !batch.closing;
            let batch = self.changed.wait_while(self.lock(), idle);
            let more = |batch: &mut Batch| batch.bytes.len() < BATCH_BYTES && !batch.closing;
            let (mut batch, _) = self
                .changed
                .wait_timeout_while(batch.unwrap_or_else(PoisonError::into_inner), BATCH_WAIT, more)
                .unwrap_or_else(PoisonError::into_inner);
            bytes.clear();
            std::mem::swap(&mut bytes, &mut batch.bytes);
            let lines = std::mem::take(&mut batch.lines);
            let reopens = std::mem::take(&mut batch.reopen);
            let closing = batch.closing;
            drop(batch);
            if reopens && let Ok(Some(fresh)) = open(to) {
                out = fresh;
            }
            if out.write_all(&bytes).and_then(|()| out.flush()).is_err() {
                self.dropped.fetch_add(lines, Ordering::Relaxed);
            }
            if closing {
                self.lock().closed = true;
                self.changed.notify_all();
                return;
            }
        }
    }
}

fn open(to: &Destination) -> io::Result<Option<Box<dyn Write + Send>>> {
    Ok(match to {
        Destination::Stdout => Some(Box::new(io::stdout())),
        Destination::Stderr => Some(Box::new(io::stderr())),
        Destination::File(path) => Some(Box::new(append(path)?)),
        Destination::None => None,
    })
}

fn append(path: &PathBuf) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}
