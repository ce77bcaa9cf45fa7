//! Nothing that callers choose becomes a time series, a bucket beyond the ceiling, or memory kept.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::{Gate, POLICY, Plan, Service, connect};

const REQUESTS: usize = 100_000;
const CONNECTIONS: usize = 8;
/// Requests that are sent before an answer is read.
const PIPELINED: usize = 50;
/// After so many requests, everything that there is to count has been counted once.
const WARMING: usize = 8_000;
const BUCKETS_MAX: u64 = 4_096;

/// A generator of numbers that are the same in every run (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }

    fn word(&mut self) -> String {
        format!("{:016x}", self.next())
    }

    /// A request such as nobody sent before. Its end is never in doubt, so that the connection lives.
    fn request(&mut self) -> String {
        let word = self.word();
        let method = match self.below(10) {
            0 => format!("M{}", &word[..8]),
            1 => "TRACE".to_owned(),
            _ => self
                .of(&["GET", "GET", "GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
                .to_owned(),
        };
        let path = match self.below(8) {
            0 => "/v1/things".to_owned(),
            1 => "/v1/open".to_owned(),
            2 => format!("/v1/things/{word}"),
            3 => format!("/v1/owners/{word}"),
            4 => format!("/{word}?{word}={word}"),
            5 => format!("/{word}/../{word}"),
            6 => format!("/v1/open?q={word}"),
            _ => format!("/{word}/%{word}"),
        };
        let host = match self.below(3) {
            0 => "localhost".to_owned(),
            1 => format!("{word}.example"),
            _ => format!("-{word}"),
        };
        let credential = match self.below(5) {
            0 => String::new(),
            1 => format!("Authorization: Bearer pcl_dev_{word}\r\n"),
            2 => format!("X-API-Key: {word}\r\n"),
            3 => format!("Signature-Input: a=();keyid=\"{word}\"\r\nSignature: a=:AAAA:\r\n"),
            _ => format!("Authorization: {word}\r\n"),
        };
        let (a, b, c) = (self.below(223) + 1, self.below(256), self.below(256));
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {word}\r\nX-Forwarded-For: {a}.{b}.{c}.7\r\nX-{word}: {word}\r\n{credential}Content-Length: 0\r\n\r\n"
        )
    }
}

/// Reads so many answers, and nothing beyond them.
fn read_answers(stream: &mut TcpStream, count: usize) {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    for _ in 0..count {
        loop {
            if let Some(length) = answer_length(&bytes) {
                bytes.drain(..length);
                break;
            }
            let read = stream.read(&mut chunk).unwrap();
            assert!(read > 0, "the connection ended: {}", String::from_utf8_lossy(&bytes));
            bytes.extend_from_slice(&chunk[..read]);
        }
    }
    assert!(bytes.is_empty(), "{}", String::from_utf8_lossy(&bytes));
}

/// The length of the answer at the beginning, if all of it is there.
fn answer_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).unwrap().to_ascii_lowercase();
    let length =
        text.split("content-length: ").nth(1)?.split("\r\n").next()?.parse::<usize>().unwrap();
    (bytes.len() >= head + length).then_some(head + length)
}

fn send(gate: &Gate, seed: u64, count: usize) {
    std::thread::scope(|scope| {
        for connection in 0..CONNECTIONS {
            scope.spawn(move || {
                let mut numbers = Numbers(seed + connection as u64 * 7919);
                let mut stream = connect(gate.plain());
                let mut left = count / CONNECTIONS;
                while left > 0 {
                    let batch = left.min(PIPELINED);
                    let requests: String = (0..batch).map(|_| numbers.request()).collect();
                    stream.write_all(requests.as_bytes()).unwrap();
                    read_answers(&mut stream, batch);
                    left -= batch;
                    // Budgets refill, so that some of their buckets can be forgotten.
                    gate.hand.advance(Duration::from_millis(2));
                }
            });
        }
    });
}

/// Pages of memory that the process has, in bytes.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// The names and labels of all series, without their values.
fn series(gate: &Gate) -> Vec<String> {
    let metrics = gate.metrics();
    let lines = metrics.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

#[test]
fn callers_make_no_series_no_buckets_without_end_and_no_memory() {
    let service = Service::ok();
    let gate = Plan::new(service.address, POLICY)
        .listener("trust_forwarded_from = [\"127.0.0.0/8\"]\n")
        .extra(&format!("buckets_max = {BUCKETS_MAX}\n"))
        .start();
    send(&gate, 0x9e37_79b9, WARMING);
    let (series_before, bytes_before) = (series(&gate), resident_bytes());
    let begun = Instant::now();
    send(&gate, 0xdead_beef, REQUESTS);
    let took = begun.elapsed();
    let (series_after, bytes_after) = (series(&gate), resident_bytes());
    let new: Vec<_> = series_after.iter().filter(|name| !series_before.contains(name)).collect();
    assert!(
        new.is_empty(),
        "{} series came from callers, such as {:?}",
        new.len(),
        &new[..new.len().min(5)]
    );
    assert_eq!(series_before.len(), series_after.len());
    let buckets = gate.metric("portcullis_limit_buckets");
    assert!(buckets > 0.0 && buckets <= BUCKETS_MAX as f64, "{buckets} buckets");
    // Other tests share the process; a leak of one kilobyte a request would be 100 MB.
    let grown = bytes_after.saturating_sub(bytes_before);
    assert!(grown < 96 << 20, "{} MiB for {REQUESTS} requests", grown >> 20);
    assert!(took < Duration::from_secs(60), "{took:?}");
    let counted: f64 = gate
        .metrics()
        .lines()
        .filter(|line| line.starts_with("portcullis_requests_total{"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum();
    assert_eq!(counted as usize, WARMING + REQUESTS, "every request is counted once");
}
