//! Tests of HTTP/1: heads as bytes, exchanges over a stream in memory, and hyper as the witness.

mod bodies;
mod exchanges;
mod heads;
mod witness;

use std::future::Future;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::listen::drain::Drain;
use crate::listen::http1;
use crate::listen::settings::Settings;
use crate::listen::settings::tests::plain;
use crate::listen::testing::{Player, service};

/// A caller on a connection in memory.
struct Caller {
    stream: DuplexStream,
    player: Player,
    drain: Drain,
    server: JoinHandle<()>,
}

impl Caller {
    fn new() -> Self {
        Self::with(plain())
    }

    fn with(settings: Settings) -> Self {
        let (stream, far) = duplex(64 << 10);
        let (player, drain) = (Player::default(), Drain::default());
        let service = service(settings, &player, &drain);
        let server = tokio::spawn(async move { drop(http1::serve(far, service, 0).await) });
        Self { stream, player, drain, server }
    }

    async fn say(&mut self, text: &str) {
        soon(self.stream.write_all(text.as_bytes())).await.unwrap();
    }

    /// What comes until the connection ends.
    async fn rest(&mut self) -> String {
        let mut all = Vec::new();
        soon(self.stream.read_to_end(&mut all)).await.unwrap();
        String::from_utf8_lossy(&all).into_owned()
    }

    /// What comes until `end` has come.
    async fn until(&mut self, end: &str) -> String {
        let mut all = Vec::new();
        while !all.ends_with(end.as_bytes()) {
            let byte = soon(self.stream.read_u8()).await;
            all.push(byte.unwrap_or_else(|_| panic!("ended after {:?}", lossy(&all))));
        }
        lossy(&all)
    }

    fn seen(&self) -> Vec<String> {
        self.player.seen.lock().unwrap().clone()
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Nothing here may take long, and nothing may hang.
async fn soon<F: Future>(work: F) -> F::Output {
    timeout(Duration::from_secs(5), work).await.expect("it should not take this long")
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
