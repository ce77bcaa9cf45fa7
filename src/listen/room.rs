//! One ceiling on all bytes of bodies that lie in memory at a time, whoever sent them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::refusal::{Reason, Refusal};
use crate::units::Size;

/// The room for bodies in this process.
#[derive(Debug)]
pub struct Room {
    bytes_max: u64,
    held: AtomicU64,
    refused: AtomicU64,
}

impl Room {
    /// Room for so many bytes.
    pub fn new(max: Size) -> Arc<Self> {
        Arc::new(Self { bytes_max: max.0, held: AtomicU64::new(0), refused: AtomicU64::new(0) })
    }

    /// How many bytes there is room for.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// How many bytes are held at the moment.
    pub fn bytes_held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// How often there was no room, since the start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// A hold of nothing yet.
    pub fn hold(self: &Arc<Self>) -> Held {
        Held { room: Arc::clone(self), bytes: 0 }
    }
}

/// Bytes of the room that one body takes. They are given back when this is dropped, so it must live
/// as long as the body does.
#[derive(Debug)]
pub struct Held {
    room: Arc<Room>,
    bytes: u64,
}

impl Held {
    /// How many bytes are held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Holds `bytes` in all.
    ///
    /// # Errors
    /// `buffer-full` when the room has not so many left; what was held stays held.
    pub fn resize(&mut self, bytes: u64) -> Result<(), Refusal> {
        let Some(more) = bytes.checked_sub(self.bytes) else {
            self.room.held.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
            self.bytes = bytes;
            return Ok(());
        };
        let max = self.room.bytes_max;
        // The counter guards no memory of its own, so its order towards other memory does not matter.
        let grown = self.room.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            held.checked_add(more).filter(|held| *held <= max)
        });
        if grown.is_err() {
            self.room.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Refusal::new(Reason::BufferFull)
                .because(format!("{more} more bytes do not fit into {max}")));
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_is_held_and_dropped_the_room_is_empty_at_the_end(
            steps in proptest::collection::vec((0_usize..4, 0_u64..700), 0..60),
        ) {
            let room = Room::new(Size(1000));
            {
                let mut holds: Vec<Held> = (0..4).map(|_| room.hold()).collect();
                for (which, bytes) in steps {
                    let before = holds[which].bytes();
                    let others = room.bytes_held() - before;
                    let granted = holds[which].resize(bytes).is_ok();
                    prop_assert_eq!(granted, bytes <= before || others + bytes <= 1000);
                    prop_assert_eq!(holds[which].bytes(), if granted { bytes } else { before });
                    prop_assert_eq!(room.bytes_held(), holds.iter().map(Held::bytes).sum::<u64>());
                    prop_assert!(room.bytes_held() <= 1000);
                }
            }
            prop_assert_eq!(room.bytes_held(), 0);
        }
    }
}
