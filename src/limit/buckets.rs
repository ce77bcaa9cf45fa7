//! Where buckets live: a bounded store that never forgets a bucket that somebody has drawn from.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use dashmap::{DashMap, Entry};

use crate::clock::Now;
use crate::limit::token_bucket::{TokenBucket, is_full};

/// How many buckets one segment holds, about. Sweeping a segment is the unit of bounded work.
const SEGMENT_BUCKETS: usize = 4096;

/// All buckets of the process. It outlives policies: a limit whose name and shape stay as they
/// were keeps its buckets through a reload.
///
/// The number of buckets has a ceiling, because callers choose keys. At the ceiling a new key
/// takes the place of a *full* bucket, which is what a forgotten bucket would become anyway. When
/// there is none, the new key is refused: to forget a bucket that was drawn from would give its
/// owner a new burst, and many made-up keys would then buy one real budget after the other.
#[derive(Debug)]
pub struct Buckets {
    segments: Box<[Segment]>,
    ceiling: usize,
    held: AtomicUsize,
    evictions: AtomicU64,
    refused: AtomicU64,
    /// The segment that is swept next. Held while room is made, so that one thread does the work.
    cursor: Mutex<usize>,
    keys: RandomState,
}

/// A part of the store that can be swept by itself.
#[derive(Debug)]
struct Segment {
    words: DashMap<u64, AtomicU64, Already>,
    /// No bucket of this segment is full before this steady time; a lower bound.
    earliest_ns: AtomicU64,
}

/// The key of one bucket: a keyed hash, so that callers cannot aim at somebody else's. Among four
/// million buckets two share a word by chance once in two million processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BucketKey(u64);

/// What came of taking from a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Paid; the word after.
    Paid(u64),
    /// Too little is left; the word as it is.
    Empty(u64),
    /// The key is new, and there is no room for it.
    NoRoom,
}

impl Buckets {
    /// A store for at most `ceiling` buckets. A bucket takes about 50 bytes.
    pub fn new(ceiling: usize) -> Self {
        let count = (ceiling / SEGMENT_BUCKETS).next_power_of_two().clamp(1, 256);
        let segment = || Segment {
            words: DashMap::with_hasher_and_shard_amount(Already, 2),
            earliest_ns: AtomicU64::new(u64::MAX),
        };
        Self {
            segments: std::iter::repeat_with(segment).take(count).collect(),
            ceiling,
            held: AtomicUsize::new(0),
            evictions: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            cursor: Mutex::new(0),
            keys: RandomState::new(),
        }
    }

    /// The key for these parts, which must tell their own kind and length. Names of the policy are
    /// better given as [`name_hash`].
    pub fn key(&self, parts: impl Hash) -> BucketKey {
        BucketKey(self.keys.hash_one(parts))
    }

    /// The word of a bucket, without taking from it. An unknown key has a full bucket.
    pub fn look(&self, key: BucketKey) -> u64 {
        self.segment(key)
            .and_then(|segment| segment.words.get(&key.0).map(|word| word.load(Ordering::Relaxed)))
            .unwrap_or_default()
    }

    /// Takes `cost` tokens, if so many are left.
    pub fn take(&self, key: BucketKey, bucket: &TokenBucket, cost: u64, now: Now) -> Taken {
        let Some(segment) = self.segment(key) else { return Taken::NoRoom };
        if let Some(word) = segment.words.get(&key.0) {
            return pay(&word, bucket, cost, now);
        }
        let Some(fresh) = bucket.take(0, cost, now) else { return Taken::Empty(0) };
        if !self.reserve(now) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Taken::NoRoom;
        }
        match segment.words.entry(key.0) {
            Entry::Vacant(vacant) => {
                drop(vacant.insert(AtomicU64::new(fresh)));
                // After the insertion, so that a sweep that came between cannot undo it.
                segment.earliest_ns.fetch_min(fresh, Ordering::AcqRel);
                Taken::Paid(fresh)
            }
            Entry::Occupied(occupied) => {
                let taken = pay(occupied.get(), bucket, cost, now);
                drop(occupied);
                self.held.fetch_sub(1, Ordering::AcqRel);
                taken
            }
        }
    }

    /// Gives back what [`take`](Self::take) took a moment ago.
    pub fn give_back(&self, key: BucketKey, bucket: &TokenBucket, cost: u64) {
        let Some(segment) = self.segment(key) else { return };
        let Some(word) = segment.words.get(&key.0) else { return };
        let given = |word| Some(bucket.give_back(word, cost));
        if let Ok(before) = word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, given) {
            segment.earliest_ns.fetch_min(bucket.give_back(before, cost), Ordering::AcqRel);
        }
    }

    /// Forgets full buckets in the next segment; says how many. The housekeeper calls it again and
    /// again, so that idle callers cost no memory and room is there before it is needed.
    pub fn sweep(&self, now: Now) -> usize {
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        *cursor = (*cursor + 1) % self.segments.len().max(1);
        self.segments.get(*cursor).map_or(0, |segment| self.sweep_segment(segment, now))
    }

    /// Forgets every bucket, full or not, so that each test of a policy begins with whole budgets.
    /// Nobody calls it while requests are served: it would give everybody a new burst.
    pub fn forget_all(&self) {
        for segment in &self.segments {
            let before = segment.words.len();
            segment.words.clear();
            segment.earliest_ns.store(u64::MAX, Ordering::Release);
            self.held.fetch_sub(before, Ordering::AcqRel);
        }
    }

    /// How many sweeps visit every segment once.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// How many buckets are held now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// How many buckets may be held.
    pub fn ceiling(&self) -> usize {
        self.ceiling
    }

    /// How many full buckets had to go early to make room for new keys.
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    /// How many times a new key found no room.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn segment(&self, key: BucketKey) -> Option<&Segment> {
        // The map chooses by the lowest and the highest bits of the key; the segment by those between.
        let number = usize::try_from(key.0 >> 32).unwrap_or_default() % self.segments.len().max(1);
        self.segments.get(number)
    }

    /// Counts one more bucket, if there is room or room can be made.
    fn reserve(&self, now: Now) -> bool {
        let one_more = |held: usize| (held < self.ceiling).then_some(held + 1);
        let add = || self.held.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_more).is_ok();
        add() || {
            let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
            // Somebody else may have made room while we waited.
            add() || (self.make_room(&mut cursor, now) && add())
        }
    }

    /// Sweeps the next segment that may have a full bucket, and more of them until one goes.
    fn make_room(&self, cursor: &mut usize, now: Now) -> bool {
        let count = self.segments.len();
        for step in 1..=count {
            let number = (*cursor + step) % count;
            let Some(segment) = self.segments.get(number) else { continue };
            if segment.earliest_ns.load(Ordering::Acquire) > now.steady_ns {
                continue;
            }
            let forgotten = self.sweep_segment(segment, now);
            if forgotten > 0 {
                *cursor = number;
                self.evictions.fetch_add(forgotten as u64, Ordering::Relaxed);
                return true;
            }
        }
        false
    }

    /// Forgets the full buckets of a segment, and learns when the next one will be full.
    fn sweep_segment(&self, segment: &Segment, now: Now) -> usize {
        if segment.earliest_ns.load(Ordering::Acquire) > now.steady_ns {
            return 0;
        }
        segment.earliest_ns.store(u64::MAX, Ordering::Release);
        let (mut forgotten, mut earliest) = (0, u64::MAX);
        segment.words.retain(|_, word| {
            let word = *word.get_mut();
            if is_full(word, now) {
                forgotten += 1;
                return false;
            }
            earliest = earliest.min(word);
            true
        });
        segment.earliest_ns.fetch_min(earliest, Ordering::AcqRel);
        self.held.fetch_sub(forgotten, Ordering::AcqRel);
        forgotten
    }
}

/// A name of the policy as a number, made once so that no request has to read it. Not keyed: whoever
/// writes the policy may do what they want with its budgets.
pub fn name_hash(name: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(name)
}

fn pay(word: &AtomicU64, bucket: &TokenBucket, cost: u64, now: Now) -> Taken {
    let mut before = word.load(Ordering::Relaxed);
    loop {
        let Some(after) = bucket.take(before, cost, now) else { return Taken::Empty(before) };
        match word.compare_exchange_weak(before, after, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return Taken::Paid(after),
            Err(changed) => before = changed,
        }
    }
}

/// Hashes what is a hash already.
#[derive(Clone, Copy, Debug, Default)]
struct Already;

impl BuildHasher for Already {
    type Hasher = AlreadyHashed;

    fn build_hasher(&self) -> AlreadyHashed {
        AlreadyHashed(0)
    }
}

struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn write(&mut self, bytes: &[u8]) {
        // Keys are `u64`, which come by `write_u64`; this is for completeness.
        self.0 = bytes.iter().fold(self.0, |sum, byte| sum.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    fn at(steady_s: u64) -> Now {
        Now { steady_ns: steady_s * 1_000_000_000, unix_ms: steady_s * 1000 }
    }

    #[test]
    fn threads_with_new_keys_neither_pass_the_ceiling_nor_reset_a_drained_bucket() {
        const CEILING: usize = 20_000;
        let buckets = Buckets::new(CEILING);
        assert!(buckets.segments() > 1);
        let bucket = TokenBucket::new(3, "3/min".parse().unwrap()).unwrap();
        let drained = buckets.key("drained");
        assert!(matches!(buckets.take(drained, &bucket, 3, at(0)), Taken::Paid(_)));
        let (start, kept) = (Barrier::new(8), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (buckets, start, kept) = (&buckets, &start, &kept);
                scope.spawn(move || {
                    start.wait();
                    for number in 0..10_000 {
                        // Those of the first half are full again after 20 s, the drained one after 60 s.
                        let now = at(if number < 5000 { 0 } else { 21 });
                        let key = buckets.key((thread, number));
                        if let Taken::Paid(_) = buckets.take(key, &bucket, 1, now) {
                            kept.fetch_add(1, Ordering::Relaxed);
                        }
                        assert!(buckets.held() <= CEILING);
                        let again = buckets.take(drained, &bucket, 2, now);
                        assert!(matches!(again, Taken::Empty(_)), "{again:?}");
                    }
                });
            }
        });
        let held: usize = buckets.segments.iter().map(|segment| segment.words.len()).sum();
        assert_eq!(held, buckets.held(), "the count is exact");
        let (kept, refused) = (kept.into_inner(), buckets.refused());
        assert_eq!(kept + refused, 80_000);
        assert!(kept > CEILING as u64, "room was made: {kept} of {CEILING}");
        assert!(buckets.evictions() > 0 && refused > 0);
    }

    #[test]
    fn threads_that_make_one_bucket_at_once_make_one() {
        let buckets = Buckets::new(20_000);
        let bucket = TokenBucket::new(8, "8/h".parse().unwrap()).unwrap();
        let start = Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for number in 0..2000 {
                        start.wait();
                        let taken = buckets.take(buckets.key(number), &bucket, 1, at(0));
                        assert!(matches!(taken, Taken::Paid(_)), "{taken:?}");
                    }
                });
            }
        });
        assert_eq!(buckets.held(), 2000);
        for number in 0..2000 {
            let taken = buckets.take(buckets.key(number), &bucket, 1, at(0));
            assert!(matches!(taken, Taken::Empty(_)), "all eight were paid from one bucket");
        }
    }

    #[test]
    fn full_buckets_go_first_and_looking_makes_none() {
        let buckets = Buckets::new(2);
        let slow = TokenBucket::new(2, "2/h".parse().unwrap()).unwrap();
        let quick = TokenBucket::new(2, "2/s".parse().unwrap()).unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| buckets.key(name));
        assert_eq!(buckets.look(a), 0);
        assert_eq!(buckets.held(), 0);
        assert!(matches!(buckets.take(a, &slow, 1, at(0)), Taken::Paid(_)));
        assert!(matches!(buckets.take(b, &quick, 1, at(0)), Taken::Paid(_)));
        assert_eq!(buckets.take(c, &slow, 1, at(0)), Taken::NoRoom);
        // The quick one was used last and is full by now; the slow one was used first and is not.
        assert!(matches!(buckets.take(c, &slow, 1, at(1)), Taken::Paid(_)));
        assert_eq!(buckets.look(b), 0);
        assert_ne!(buckets.look(a), 0);
        assert_eq!(buckets.take(b, &quick, 1, at(2)), Taken::NoRoom);
        assert_eq!((buckets.held(), buckets.evictions(), buckets.refused()), (2, 1, 2));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let buckets = Buckets::new(10);
        let bucket = TokenBucket::new(2, "2/h".parse().unwrap()).unwrap();
        let key = buckets.key("a");
        assert!(matches!(buckets.take(key, &bucket, 2, at(0)), Taken::Paid(_)));
        assert!(matches!(buckets.take(key, &bucket, 1, at(0)), Taken::Empty(_)));
        buckets.give_back(key, &bucket, 2);
        assert_eq!(buckets.sweep(at(0)), 1, "and is full, so it may go");
        assert_eq!(buckets.held(), 0);
    }
}
