//! What the store of nonces must hold under load, over time and over a restart.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use super::*;
use crate::clock::Clock;

const START_MS: u64 = 1_767_225_600_000;

/// A claim that counts for nobody's share.
fn claim(nonces: &Nonces, keyid: &str, nonce: &str, until_ms: u64, now: Now) -> Claim {
    nonces.claim(keyid, &Share::default(), nonce, until_ms, now)
}

#[test]
fn a_nonce_is_claimed_once_per_key() {
    let (clock, _) = Clock::set_at(START_MS);
    let now = clock.now();
    let nonces = Nonces::with_history(10);
    assert_eq!(claim(&nonces, "a", "nonce-01", START_MS + 60_000, now), Claim::Claimed);
    assert_eq!(claim(&nonces, "a", "nonce-01", START_MS + 60_000, now), Claim::Seen);
    assert_eq!(claim(&nonces, "b", "nonce-01", START_MS + 60_000, now), Claim::Claimed);
    assert_eq!(claim(&nonces, "an", "once-01", START_MS + 60_000, now), Claim::Claimed);
    assert_eq!(nonces.len(), 3);
}

#[test]
fn a_full_store_refuses_and_forgets_nothing_live() {
    let (clock, hand) = Clock::set_at(START_MS);
    let nonces = Nonces::with_history(3);
    for nonce in ["one", "two", "three"] {
        assert_eq!(claim(&nonces, "a", nonce, START_MS + 60_000, clock.now()), Claim::Claimed);
    }
    assert_eq!(claim(&nonces, "a", "four", START_MS + 60_000, clock.now()), Claim::Full);
    for nonce in ["one", "two", "three"] {
        assert_eq!(claim(&nonces, "a", nonce, START_MS + 60_000, clock.now()), Claim::Seen);
    }
    hand.advance(Duration::from_millis(60_000));
    assert_eq!(claim(&nonces, "a", "four", START_MS + 99_000, clock.now()), Claim::Full);
    hand.advance(Duration::from_millis(1));
    assert_eq!(claim(&nonces, "a", "four", START_MS + 99_000, clock.now()), Claim::Claimed);
    assert!(nonces.len() <= 3);
}

#[test]
fn what_expired_is_swept_with_bounded_work_and_may_be_claimed_anew() {
    let (clock, hand) = Clock::set_at(START_MS);
    let nonces = Nonces::with_history(10_000);
    for number in 0..10_000 {
        let nonce = format!("nonce-{number}");
        assert_eq!(claim(&nonces, "a", &nonce, START_MS + 1000, clock.now()), Claim::Claimed);
    }
    hand.advance(Duration::from_secs(2));
    for number in 0..10_000 {
        let nonce = format!("nonce-{number}");
        assert_eq!(claim(&nonces, "a", &nonce, START_MS + 9000, clock.now()), Claim::Claimed);
        assert_eq!(claim(&nonces, "a", &nonce, START_MS + 9000, clock.now()), Claim::Seen);
    }
    assert_eq!(nonces.len(), 10_000);
    assert_eq!(claim(&nonces, "a", "one more", START_MS + 9000, clock.now()), Claim::Full);
}

#[test]
fn a_calendar_that_jumps_ahead_forgets_nothing() {
    let (clock, _) = Clock::set_at(START_MS);
    let now = clock.now();
    let nonces = Nonces::with_history(10);
    assert_eq!(claim(&nonces, "a", "nonce-01", START_MS + 60_000, now), Claim::Claimed);
    let later = Now { unix_ms: START_MS + 86_400_000, ..now };
    assert_eq!(claim(&nonces, "a", "nonce-01", later.unix_ms + 60_000, later), Claim::Seen);
}

#[test]
fn of_many_threads_one_claims_a_nonce() {
    let (clock, _) = Clock::set_at(START_MS);
    let nonces = Nonces::with_history(1000);
    let claimed = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for number in 0..500 {
                    let nonce = format!("nonce-{number}");
                    let claim = claim(&nonces, "a", &nonce, START_MS + 60_000, clock.now());
                    claimed.fetch_add(u32::from(claim == Claim::Claimed), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(claimed.into_inner(), 500);
    assert_eq!(nonces.len(), 500);
}

#[test]
fn many_threads_never_hold_more_than_the_capacity() {
    let (clock, _) = Clock::set_at(START_MS);
    let nonces = Nonces::with_history(100);
    let claimed = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (nonces, claimed, now) = (&nonces, &claimed, clock.now());
            scope.spawn(move || {
                for number in 0..100 {
                    let nonce = format!("nonce-{thread}-{number}");
                    let claim = claim(nonces, "a", &nonce, START_MS + 60_000, now);
                    claimed.fetch_add(u32::from(claim == Claim::Claimed), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(claimed.into_inner(), 100);
    assert_eq!(nonces.len(), 100);
}

#[test]
fn after_a_start_earlier_signatures_are_not_remembered() {
    let now = Now { steady_ns: 0, unix_ms: START_MS + 1 };
    let nonces = Nonces::new(10, now);
    assert!(!nonces.remembers(START_MS / 1000));
    assert!(nonces.remembers(START_MS / 1000 + 1));
    assert!(Nonces::with_history(10).remembers(0));
}

#[test]
fn one_key_cannot_fill_the_store() {
    let (clock, hand) = Clock::set_at(START_MS);
    let nonces = Nonces::new(400, clock.now());
    let (greedy, modest) = (Share::default(), Share::default());
    let ask = |share: &Share, keyid: &str, number: u32| {
        let nonce = format!("nonce-{number}");
        nonces.claim(keyid, share, &nonce, clock.now().unix_ms + 60_000, clock.now())
    };
    for number in 0..100 {
        assert_eq!(ask(&greedy, "greedy", number), Claim::Claimed);
    }
    assert_eq!(ask(&greedy, "greedy", 100), Claim::OverShare);
    assert_eq!(ask(&greedy.clone(), "greedy", 101), Claim::OverShare);
    assert_eq!(ask(&greedy, "greedy", 7), Claim::Seen, "what is over is still not forgotten");
    for number in 0..100 {
        assert_eq!(ask(&modest, "modest", number), Claim::Claimed);
    }
    // Its share is free again as its nonces end.
    hand.advance(Duration::from_secs(61));
    for number in 0..100 {
        assert_eq!(ask(&greedy, "greedy", number), Claim::Claimed, "{number}");
    }
    assert_eq!(ask(&greedy, "greedy", 100), Claim::OverShare);
}

#[test]
fn a_clean_stop_keeps_what_was_used_and_a_crash_keeps_nothing() {
    let (clock, hand) = Clock::set_at(START_MS);
    let store = Store::in_memory().unwrap();
    let first = Nonces::new(200_000, clock.now());
    let created_s = START_MS / 1000 + 1;
    hand.advance(Duration::from_secs(2));
    let until_ms = first.until_ms(created_s, 65, clock.now()).unwrap();
    // More than one part holds.
    for number in 0..PART_NONCES + 10 {
        assert_eq!(claim(&first, "a", &number.to_string(), until_ms, clock.now()), Claim::Claimed);
    }
    assert_eq!(first.save(&store, clock.now()).unwrap(), PART_NONCES + 10);

    hand.advance(Duration::from_secs(10));
    let second = Nonces::restored(200_000, &store, clock.now()).unwrap();
    assert_eq!(second.until_ms(created_s, 65, clock.now()), Some(until_ms));
    for number in [0, 1, PART_NONCES, PART_NONCES + 9] {
        assert_eq!(claim(&second, "a", &number.to_string(), until_ms, clock.now()), Claim::Seen);
    }
    assert_eq!(claim(&second, "a", "unused", until_ms, clock.now()), Claim::Claimed);
    // What the first process could not know, the second does not know either.
    assert!(!second.remembers(START_MS / 1000 - 1));

    // The second process crashes: its history is gone, and the first one's must not come back.
    let third = Nonces::restored(200_000, &store, clock.now()).unwrap();
    assert!(third.is_empty());
    assert_eq!(third.until_ms(created_s, 65, clock.now()), None);

    // A store that cannot hold all of a history does without it.
    first.save(&store, clock.now()).unwrap();
    let small = Nonces::restored(10, &store, clock.now()).unwrap();
    assert!(small.is_empty() && !small.remembers(created_s));
}

#[test]
fn a_rule_that_accepts_for_longer_accepts_nothing_that_may_be_forgotten() {
    let (clock, hand) = Clock::set_at(START_MS);
    let nonces = Nonces::with_history(10);
    let created_s = START_MS / 1000;
    assert_eq!(nonces.until_ms(created_s, 65, clock.now()), Some((created_s + 66) * 1000));
    hand.advance(Duration::from_secs(600));
    // Used ten minutes ago and forgotten since; the new rule would accept it for an hour.
    assert_eq!(nonces.until_ms(created_s, 3605, clock.now()), None);
    let recent_s = clock.now().unix_s() - 60;
    let until_ms = Some((recent_s + 3606) * 1000);
    assert_eq!(nonces.until_ms(recent_s, 3605, clock.now()), until_ms);
    // From here on every nonce is kept for as long as the longest rule accepts it.
    assert_eq!(nonces.until_ms(recent_s, 65, clock.now()), until_ms);
}

#[test]
fn a_history_of_a_version_that_hashes_otherwise_is_none() {
    let (clock, _) = Clock::set_at(START_MS);
    let created_s = START_MS / 1000 - 10;
    let kept = |header: &[u64], entries: &[u8]| {
        let store = Store::in_memory().unwrap();
        let mut batch = Batch::default();
        let header: Vec<u8> = header.iter().flat_map(|number| number.to_be_bytes()).collect();
        batch.put(Table::Meta, HISTORY, Zeroizing::new(header));
        batch.put(Table::Meta, format!("{HISTORY}.0"), Zeroizing::new(entries.to_vec()));
        store.write(batch).unwrap();
        store
    };
    // Three numbers and 24 bytes a nonce were an earlier form; the other has a hash that is not ours.
    for store in [
        kept(&[created_s - 100, 65, 1], &[7; 24]),
        kept(&[created_s - 100, 65, 1, 5, 6], &[7; ENTRY_BYTES]),
    ] {
        let nonces = Nonces::restored(10, &store, clock.now()).unwrap();
        assert!(nonces.is_empty() && !nonces.remembers(created_s));
        assert!(store.get(Table::Meta, HISTORY).unwrap().is_none(), "it is good for one start");
    }
}
