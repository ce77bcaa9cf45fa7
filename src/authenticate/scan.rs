//! Looks at every byte of a text at once, so that texts of hundreds of bytes take few steps.

/// How many bytes are looked at together.
const TOGETHER: usize = 16;

/// Whether any byte is odd. All are looked at in any case: without a branch for each, many are looked
/// at together. The last few are looked at twice, which is less than each of them alone.
#[inline(always)]
pub(in crate::authenticate) fn any(bytes: &[u8], odd: impl Fn(u8) -> bool) -> bool {
    let one = |found: u8, byte: &u8| found | u8::from(odd(*byte));
    let Some(last) = bytes.last_chunk::<TOGETHER>() else {
        return bytes.iter().fold(0, one) != 0;
    };
    let (chunks, _) = bytes.as_chunks::<TOGETHER>();
    let mut found = [0; TOGETHER];
    for chunk in chunks.iter().chain([last]) {
        for (found, byte) in found.iter_mut().zip(chunk) {
            *found = one(*found, byte);
        }
    }
    found.iter().fold(0, |any, found| any | found) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_odd_byte_is_found_wherever_it_stands() {
        for length in 0..70 {
            let mut bytes = vec![b'a'; length];
            assert!(!any(&bytes, |byte| byte == b'!'), "{length}");
            for at in 0..length {
                bytes[at] = b'!';
                assert!(any(&bytes, |byte| byte == b'!'), "{length} {at}");
                bytes[at] = b'a';
            }
        }
    }
}
