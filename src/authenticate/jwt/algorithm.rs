//! The algorithms that tokens may be signed with (RFC 7518, section 3.1; RFC 8037).

use ring::{hmac, signature};
use schemars::JsonSchema;
use serde::Deserialize;

/// Defines the algorithms: one row each. There is no `none`.
macro_rules! algorithms {
    ($($name:ident $text:literal $explained:literal)*) => {
        /// An algorithm to sign tokens with.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
        pub enum Algorithm {
            $(#[doc = $explained] #[serde(rename = $text)] $name,)*
        }

        impl Algorithm {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name, as tokens and keys write it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

algorithms! {
    Es256 "ES256" "ECDSA with P-256 and SHA-256"
    Es384 "ES384" "ECDSA with P-384 and SHA-384"
    EdDsa "EdDSA" "Ed25519"
    Rs256 "RS256" "RSASSA-PKCS1-v1_5 with SHA-256"
    Rs384 "RS384" "RSASSA-PKCS1-v1_5 with SHA-384"
    Rs512 "RS512" "RSASSA-PKCS1-v1_5 with SHA-512"
    Ps256 "PS256" "RSASSA-PSS with SHA-256"
    Ps384 "PS384" "RSASSA-PSS with SHA-384"
    Ps512 "PS512" "RSASSA-PSS with SHA-512"
    Hs256 "HS256" "HMAC with SHA-256"
    Hs384 "HS384" "HMAC with SHA-384"
    Hs512 "HS512" "HMAC with SHA-512"
}

/// How `ring` verifies an algorithm.
pub(in crate::authenticate) enum Ring {
    /// With a public key as bytes.
    Bytes(&'static dyn signature::VerificationAlgorithm),
    /// With an RSA key.
    Rsa(&'static signature::RsaParameters),
    /// With a shared secret.
    Hmac(hmac::Algorithm),
}

impl Algorithm {
    /// The algorithm with exactly this name. Whatever is no name of the table, `none` in every
    /// spelling among it, is no algorithm.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.name() == name)
    }

    /// Whether whoever verifies could also sign.
    pub fn is_shared(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }

    /// How many bytes a shared secret has at least: as many as the hash (RFC 7518, section 3.2).
    pub fn secret_bytes_min(self) -> usize {
        match self.ring() {
            Ring::Hmac(algorithm) => algorithm.digest_algorithm().output_len(),
            Ring::Bytes(_) | Ring::Rsa(_) => 0,
        }
    }

    /// Whether its keys are RSA keys.
    pub fn is_rsa(self) -> bool {
        matches!(self.ring(), Ring::Rsa(_))
    }

    pub(in crate::authenticate) fn ring(self) -> Ring {
        match self {
            Self::Es256 => Ring::Bytes(&signature::ECDSA_P256_SHA256_FIXED),
            Self::Es384 => Ring::Bytes(&signature::ECDSA_P384_SHA384_FIXED),
            Self::EdDsa => Ring::Bytes(&signature::ED25519),
            Self::Rs256 => Ring::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Ring::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Ring::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Ring::Rsa(&signature::RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Ring::Rsa(&signature::RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Ring::Rsa(&signature::RSA_PSS_2048_8192_SHA512),
            Self::Hs256 => Ring::Hmac(hmac::HMAC_SHA256),
            Self::Hs384 => Ring::Hmac(hmac::HMAC_SHA384),
            Self::Hs512 => Ring::Hmac(hmac::HMAC_SHA512),
        }
    }
}
