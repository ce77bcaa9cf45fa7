//! The kinds of mistake, each with a number that never changes and a text that explains it.

/// Defines the kinds of mistake: one row a kind.
macro_rules! codes {
    ($($name:ident $number:literal $explained:literal)*) => {
        /// A kind of mistake. `P…` must be mended before anything is loaded, `W…` is advice.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $explained] $name,)*
        }

        impl Code {
            /// Every kind, in the order of this table.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The number that messages show, for example `P0102`.
            pub fn number(self) -> &'static str {
                match self { $(Self::$name => $number,)* }
            }

            /// What the mistake means, why it matters and how it is mended.
            pub fn explained(self) -> &'static str {
                match self { $(Self::$name => $explained,)* }
            }
        }
    };
}

codes! {
    // Files and TOML.
    Unreadable "P0001" "A file that is named, or that must be there, cannot be read. Nothing is loaded without it."
    Syntax "P0101" "The text is not TOML. All faults of a file are reported at once, each at its place."
    UnknownKey "P0102" "A key that nothing reads. It is an error, because a misspelt key would otherwise switch a protection off in silence."
    WrongValue "P0103" "A value of the wrong kind, out of its range, or without its unit. Sizes, times and rates are texts with a unit: \"64KiB\", \"15m\", \"120/min\"."
    MissingKey "P0104" "A key that must be there is not."
    DefinedTwice "P0105" "The same name is defined in two places. Policies never override each other; one of the two must go."
    BadName "P0106" "Names are lower-case letters, digits and hyphens and begin with a letter, so that they can stand in addresses, metrics and logs."
    // Meaning.
    Undefined "P0201" "A name that nothing defines: a role, scope, tier, limit, filter, signature or upstream that is used but never described."
    BadPattern "P0202" "A route's `match` that cannot be read: one method (or `*`), a space, and a path such as `GET /v1/tasks/{id:uuid}`."
    Collision "P0203" "Two routes match the same requests, so nobody could say which one holds. The witness request shows it; make one of them more specific."
    ClosedDoor "P0204" "A door that can never open, or a rule that can never apply, such as one that asks for a tier that no key can have."
    NoDoor "P0205" "A route that nobody may use. Write at least one door in `allow`; `allow = [{ anyone = true }]` opens it to every caller who is authenticated."
    BadSchema "P0206" "A JSON Schema that does not compile, or that refers to something outside its own file."
    BadLimit "P0207" "A budget that cannot work: a burst of zero for everybody, or a rate that rounds to nothing."
    BadTest "P0208" "A `[[test]]` that cannot be run as it is written."
    BadException "P0209" "An exception without a reason, or an observation without an end. Both are needed to know when it may go."
    Expired "P0210" "A date that has passed: what it bounded no longer holds, and somebody has to decide what should."
    BadAuth "P0211" "An `auth` that cannot be read. Write `auth = { any = [\"api-key\"] }`, `auth = { all = [\"api-key\", \"signature.request\"] }`, or `auth = \"none\"` to open a route on purpose."
    BadRewrite "P0212" "A rewrite whose result is not a path this route's rules were written for."
    BadExpression "P0213" "A regular expression that does not compile within its size limit. All expressions run in linear time."
    BadSelfService "P0222" "A route on which callers manage their own keys, and that asks for what such a route cannot have: it is a POST to one path, the gateway answers it itself, and whoever calls must prove who they are."
    BadKeys "P0221" "Keys of an issuer that cannot be used: no JWK Set, a private or shared key, an RSA key of fewer than 2048 bits, or none to verify with."
    // The process.
    BadAddress "P0301" "An address that cannot be used here: not an IP address with a port, a host that is missing, or the gateway's own admin listener as an upstream."
    BadCertificate "P0302" "A certificate, key, authority or revocation list that cannot be read, does not fit, or has expired. TLS never starts without what is named."
    InlineSecret "P0303" "A secret that stands in a file others can read. Write `env:NAME`, `file:PATH` or `credential:NAME` instead."
    OpenSecret "P0304" "A file with a secret that others may read. Its mode must be 0600; 0440 will do where root owns it and its group is the gateway's own, as Kubernetes mounts secrets with `fsGroup`."
    NoListener "P0305" "A gateway without a listener would serve nobody."
    ExposedDevelopment "P0306" "Development material (a first-run certificate, the bundled service without identity) on an address that others can reach."
    // Advice.
    OldTls "W0401" "TLS 1.2 is allowed. It is still sound, but every client that matters has spoken 1.3 for years."
    NoLimit "W0402" "A route that changes things has no budget of its own."
    NoSchema "W0403" "A route that accepts JSON has no schema, so any shape of body reaches the service."
    ObserveOnly "W0404" "A rule that only watches. It refuses nothing until somebody makes it enforce."
    ObserveEnded "W0430" "The day until which a door was only watched has come. The door enforces; the key means nothing any more."
    WeakerThanDefault "W0405" "A route replaces a default by something weaker."
    ExpiringCertificate "W0406" "A certificate or authority that expires within thirty days, or a revocation list that has ended."
    OpenAdmin "W0407" "The admin listener can be reached from other machines."
    UnusedName "W0408" "A name that is defined and never used."
    NoFilter "W0411" "A route that accepts a body is not inspected for attacks."
    Unguarded "W0420" "An upstream that answers requests which do not come from the gateway. Whoever reaches it around the gateway is let in, so nothing that the policy says protects it."
    PlainUpstream "W0412" "An upstream on another machine is spoken to without TLS."
    MasterBesideStore "W0414" "The master key lies beside the store that it unlocks, and other machines reach the gateway. Whoever copies the directory then has both."
    OpenKey "W0415" "A private key of TLS that every user of the machine may read."
    WalkedAround "W0416" "A guarded path beside a catch-all that asks for less. Paths are matched to the letter, and most services are not so strict: they take `/admin/` or `/Admin` for `/admin`, which the catch-all lets through."
    LongLivedKeys "W0421" "New keys would live longer by default than their environment allows."
}

impl Code {
    /// Whether it is advice only, which stops nothing.
    pub fn is_advice(self) -> bool {
        self.number().starts_with('W')
    }

    /// The kind with this number.
    pub fn by_number(number: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.number().eq_ignore_ascii_case(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_used_once() {
        let numbers: std::collections::HashSet<_> =
            Code::ALL.iter().map(|code| code.number()).collect();
        assert_eq!(numbers.len(), Code::ALL.len());
        assert_eq!(Code::by_number("p0203"), Some(Code::Collision));
    }
}
