//! Says which RSA keys are too weak, or too large, to be taken.

/// The fewest bits of a modulus: shorter ones can be factored, or will be.
const BITS_MIN: usize = 2048;
/// The most: what they cost to verify with grows with their square.
const BITS_MAX: usize = 8192;

/// Why an RSA key is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::authenticate) enum Weakness {
    /// It has fewer than 2048 bits.
    Short,
    /// It has more than 8192.
    Long,
    /// One vendor's chips made it badly (ROCA, CVE-2017-15361): whoever has the public half can
    /// find the private one.
    Roca,
}

/// What is wrong with a key of this modulus, which is big-endian and begins with no zero byte.
pub(in crate::authenticate) fn weakness(modulus: &[u8]) -> Option<Weakness> {
    let bits =
        modulus.len() * 8 - modulus.first().map_or(0, |first| first.leading_zeros() as usize);
    match bits {
        ..BITS_MIN => Some(Weakness::Short),
        BITS_MIN..=BITS_MAX => is_roca(modulus).then_some(Weakness::Roca),
        _ => Some(Weakness::Long),
    }
}

/// The odd primes up to 353. Flawed keys of 992 bits and more are alike under each of them.
const PRIMES: [u64; 70] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
    101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167, 173, 179, 181, 191, 193,
    197, 199, 211, 223, 227, 229, 233, 239, 241, 251, 257, 263, 269, 271, 277, 281, 283, 293, 307,
    311, 313, 317, 331, 337, 347, 349, 353,
];
const GENERATOR: u64 = 65_537;

/// Whether a modulus was made by the flawed method: of primes that are `k * M + 65537^a mod M`, with
/// M a product of small primes. It is then a power of 65537 under each of these, which a random
/// one is by a chance that nobody meets (Nemec and others, "The Return of Coppersmith's Attack",
/// section 2).
///
/// Callers send keys too (RFC 9449), so the modulus is divided four bytes at a time, by three primes
/// at once, and most keys are told after two such rounds.
fn is_roca(modulus: &[u8]) -> bool {
    PRIMES.chunks(3).all(|primes| {
        let product: u64 = primes.iter().product();
        // Below 2^26, so nothing overflows.
        let rest = modulus.rchunks(4).rev().fold(0, |rest: u64, word| {
            word.iter().fold(rest, |rest, byte| (rest << 8) | u64::from(*byte)) % product
        });
        primes.iter().all(|prime| is_power(rest % prime, *prime))
    })
}

/// Whether a number is some power of the generator under this prime.
fn is_power(number: u64, prime: u64) -> bool {
    let next = |power: &u64| Some(power * GENERATOR % prime).filter(|next| *next != 1);
    std::iter::successors(Some(1), next).any(|power| power == number)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    #[test]
    fn keys_of_the_flawed_chips_are_known_from_others_cve_2017_15361() {
        let sets = include_str!("../../tests/corpus/wycheproof-jwk.txt");
        let sets = sets.lines().filter_map(|line| line.strip_prefix("set "));
        let mut judged = Vec::new();
        for set in sets {
            let set: serde_json::Value = serde_json::from_str(set).unwrap();
            for key in set["keys"].as_array().unwrap() {
                if let Some(modulus) = key["n"].as_str() {
                    let is_flawed = key["kid"].as_str().unwrap().contains("roca");
                    assert_eq!(is_roca(&URL_SAFE_NO_PAD.decode(modulus).unwrap()), is_flawed);
                    judged.push(is_flawed);
                }
            }
        }
        assert!(judged.contains(&true) && judged.contains(&false));
        assert!(!is_roca(&[0xff; 256]));
        // One is a power under every prime, however many bytes stand before it.
        for length in 1..9 {
            let mut one = vec![0; length];
            one[length - 1] = 1;
            assert!(is_roca(&one));
            one[length - 1] = 11;
            assert!(!is_roca(&one), "no power is divided by a prime");
        }
    }
}
