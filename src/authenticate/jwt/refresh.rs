//! Fetches sets of keys behind requests: at intervals, and sooner when a token names an unknown key.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::Full;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::authenticate::client::{ANSWER_BYTES_MAX, Site};
use crate::authenticate::jwt::keys::{KeySet, KeySets, Place};
use crate::clock::Clock;

/// One fetch may take so long, connection and all.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// A URL is asked no more often, whatever tokens name.
const URL_EVERY_MIN: Duration = Duration::from_secs(5);
/// After a failure a URL is asked again so soon, then half as often each time.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// A file is looked at so often.
const FILE_EVERY: Duration = Duration::from_secs(1);
/// Sets that no policy uses any more are looked for so often.
const FORGET_EVERY: Duration = Duration::from_secs(30);

/// Keeps all sets fresh until `stop` is ready. One task for each set, so fetches of one set never
/// overlap and a slow issuer delays no other.
pub async fn keep(sets: Arc<KeySets>, clock: Clock, stop: impl Future<Output = ()>) {
    let mut stop = std::pin::pin!(stop);
    let mut tending: Vec<Weak<KeySet>> = Vec::new();
    let mut tasks = JoinSet::new();
    loop {
        tending.retain(|set| set.strong_count() > 0);
        for set in sets.in_use() {
            let known = tending.iter().any(|known| known.as_ptr() == Arc::as_ptr(&set));
            if !known {
                tending.push(Arc::downgrade(&set));
                tasks.spawn(tend(Arc::downgrade(&set), clock.clone()));
            }
        }
        tokio::select! {
            () = sets.added.notified() => {}
            () = sleep(FORGET_EVERY) => {}
            _ = tasks.join_next(), if !tasks.is_empty() => {}
            () = &mut stop => return,
        }
    }
}

/// Keeps one set fresh for as long as somebody uses it.
async fn tend(set: Weak<KeySet>, clock: Clock) {
    let mut retry = RETRY_FIRST;
    let mut told = String::new();
    loop {
        let Some(held) = set.upgrade() else { return };
        let Some(source) = held.source() else { return };
        let begun = Instant::now();
        let (fetched, pause) = match &source.place {
            Place::File(path) => (look_at(&held, path, &clock).await, FILE_EVERY),
            Place::Url(site) => match fetch(&held, site, &clock).await {
                Ok(()) => (Ok(()), source.refresh),
                Err(says) => (Err(says), retry),
            },
        };
        let is_url = matches!(source.place, Place::Url(_));
        match fetched {
            Ok(()) => {
                retry = RETRY_FIRST;
                told.clear();
            }
            Err(says) => {
                held.fail();
                retry = (retry * 2).min(source.refresh);
                // A fault that lasts is told once.
                if says != told {
                    tracing::warn!(from = ?source.place, %says, "keys could not be fetched; those in use stay until they are too old");
                    told = says;
                }
            }
        }
        let wanted = Arc::clone(&held.wanted);
        // Whoever waits holds nothing, so that a set that no policy uses is forgotten meanwhile.
        drop(held);
        if !is_url || !told.is_empty() {
            sleep(pause).await;
            continue;
        }
        // What rang before this fetch was answered by it.
        let _ = timeout(Duration::ZERO, wanted.notified()).await;
        if timeout(pause.saturating_sub(begun.elapsed()), wanted.notified()).await.is_ok() {
            sleep(URL_EVERY_MIN.saturating_sub(begun.elapsed())).await;
        }
    }
}

async fn fetch(set: &KeySet, site: &Site, clock: &Clock) -> Result<(), String> {
    let mut request = Request::new(Full::new(Bytes::new()));
    let json = HeaderValue::from_static("application/jwk-set+json, application/json");
    request.headers_mut().insert(header::ACCEPT, json);
    let answered = site.ask(request, FETCH_TIMEOUT).await.map_err(|silent| silent.to_string())?;
    // A redirect is not followed: it would lead past the guard that the operator wrote.
    if answered.status != http::StatusCode::OK {
        return Err(format!("the issuer answered {}", answered.status.as_u16()));
    }
    let left_out = set.take(&answered.body, clock.now())?;
    for says in left_out {
        tracing::warn!(url = ?site, %says, "a key is left out");
    }
    Ok(())
}

/// Reads the file again; its keys are taken when there are others in it.
async fn look_at(set: &Arc<KeySet>, path: &Path, clock: &Clock) -> Result<(), String> {
    let (path, set, now) = (path.to_owned(), Arc::clone(set), clock.now());
    let read = move || read_file(&path).and_then(|text| set.take(&text, now).map(drop));
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|fault| Err(fault.to_string()))
}

/// The bytes of a file that is no larger than a set of keys may be.
///
/// # Errors
/// A sentence that says why not.
pub fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let wrong = |error: std::io::Error| format!("`{}` cannot be read: {error}", path.display());
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(wrong)?;
    file.take(ANSWER_BYTES_MAX as u64 + 1).read_to_end(&mut text).map_err(wrong)?;
    if text.len() > ANSWER_BYTES_MAX {
        return Err(format!("`{}` has more than {ANSWER_BYTES_MAX} bytes", path.display()));
    }
    Ok(text)
}
