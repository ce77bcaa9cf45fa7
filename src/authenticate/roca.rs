//! Knows RSA keys that one vendor's chips made badly (ROCA, CVE-2017-15361): whoever has the public
//! half can find the private one.
//!
//! Their primes are `k * M + 65537^a mod M`, where M is a product of small primes. So the modulus is
//! a power of 65537 under each of those primes, which a random one is under all of them once in more
//! keys than there are (Nemec and others, "The Return of Coppersmith's Attack", section 2).

/// The largest prime that is looked at: part of M for each length from 992 bits on.
const PRIME_MAX: u32 = 353;
const GENERATOR: u32 = 65_537;

/// Whether an RSA modulus, big-endian, was made by the flawed method.
pub(in crate::authenticate) fn is_roca(modulus: &[u8]) -> bool {
    (3..=PRIME_MAX).filter(|number| is_prime(*number)).all(|prime| {
        let rest = modulus.iter().fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
        is_power(rest, prime)
    })
}

fn is_prime(number: u32) -> bool {
    (2..number)
        .take_while(|factor| factor * factor <= number)
        .all(|factor| !number.is_multiple_of(factor))
}

/// Whether a number is some power of the generator under this prime.
fn is_power(number: u32, prime: u32) -> bool {
    let mut power = 1;
    for _ in 0..prime {
        if power == number {
            return true;
        }
        power = power * (GENERATOR % prime) % prime;
    }
    false
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
    }
}
