//! `sign --verify`: both signature bases, byte by byte, and the place where they part.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ring::digest::{SHA256, digest};

use crate::authenticate::digest::Expected;
use crate::authenticate::signature::Choice;
use crate::authenticate::signature::base::Message;
use crate::authenticate::signature::public_key::PublicKey;
use crate::authenticate::signature::sign::{Examined, check, explain};
use crate::authenticate::signature::verifier::Verifier;
use crate::cli::Ended;
use crate::cli::exit::{Exit, print, say};
use crate::cli::sign::{Options, Request, secret};
use crate::clock::Clock;
use crate::fields::Fields;
use crate::head::{self, Head};
use crate::listen::http1::head::kept;
use crate::listen::http1::trailer::kept_chunks;
use crate::listen::{Length, Peer, TlsFacts};
use crate::refusal::{Reason, Refusal};

/// A kept request, or a kept base, has at most so many bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// How many bytes stand in a row.
const ROW: usize = 16;

/// Shows what the gateway makes of a signature.
pub(in crate::cli::sign) fn run(options: &Options, file: Option<&Path>) -> Ended {
    let choice = Choice {
        label: options.label.as_deref().map(Into::into),
        tag: options.tag.as_deref().map(Into::into),
    };
    let verifier = verifier(options)?;
    let (examined, verified, body) = match file {
        Some(file) => {
            let (head, body, trailers) = received(file, options.plain)?;
            let message = Message { trailers: Some(&trailers), ..Message::of(&head) };
            (
                explain(&message, &choice),
                verified(&message, &choice, verifier.as_ref()),
                body_says(&head, &body),
            )
        }
        None => {
            let request = Request::of(options)?;
            let message = request.message();
            (explain(&message, &choice), verified(&message, &choice, verifier.as_ref()), None)
        }
    };
    let examined = examined.map_err(|refusal| refused(&refusal))?;
    let theirs = options.theirs.as_deref().map(read).transpose()?;
    let mut is_good = true;
    show(&examined, theirs.as_deref(), options.explain);
    if let Some(theirs) = &theirs {
        is_good &= compare(&examined.base, theirs);
    }
    match verified {
        None => {}
        Some(Ok(true)) => print("signature  verifies with the key that was given"),
        Some(Ok(false)) => {
            is_good = false;
            print("signature  does NOT verify: another base was signed, or with another key");
        }
        Some(Err(refusal)) => return Err(refused(&refusal)),
    }
    if let Some(Err(reason)) = body {
        is_good = false;
        print(&format!("body       {}: {}", reason.name(), reason.message()));
    }
    Ok(if is_good { Exit::Fine } else { Exit::Found })
}

fn verified(
    message: &Message<'_>,
    choice: &Choice,
    verifier: Option<&Verifier>,
) -> Option<Result<bool, Refusal>> {
    verifier.map(|verifier| check(message, choice, verifier))
}

/// What verifies, where the operator gave a secret or a public key.
fn verifier(options: &Options) -> Result<Option<Verifier>, Exit> {
    if let (Some(file), Some(algorithm)) = (&options.public_key, options.algorithm) {
        let text = String::from_utf8_lossy(&read(file)?).into_owned();
        let key = PublicKey::read(algorithm, &text);
        let key = key.map_err(|fault| Exit::CouldNot(format!("{}: {fault}", file.display())))?;
        return Ok(Some(Verifier::public(key)));
    }
    let secret = options.secret.as_ref().map(secret).transpose()?;
    Ok(secret.map(|secret| Verifier::hmac(secret.expose())))
}

/// A request from a file, read by the very code that reads connections, its body and its trailers.
fn received(file: &Path, plain: bool) -> Result<(Head, Vec<u8>, Fields), Exit> {
    let mut bytes = read(file)?;
    if !bytes.contains(&b'\r') {
        say("the file has no carriage returns; its lines are taken as if they ended with CRLF");
        bytes = with_crlf(&bytes);
    }
    let bytes = Bytes::from(bytes);
    let early = |reason: Reason, private: &str| {
        let private = if private.is_empty() { String::new() } else { format!(" ({private})") };
        Exit::CouldNot(format!(
            "the gateway refuses this request before it looks at signatures: {}, {}{private}",
            reason.name(),
            reason.message()
        ))
    };
    let (raw, end) = kept(&bytes).map_err(|reason| match reason {
        Reason::HeadTimeout => Exit::CouldNot(
            "the request's head has no end: an empty line must follow its headers".to_owned(),
        ),
        reason => early(reason, ""),
    })?;
    let tls =
        TlsFacts { server_name: None, version: "TLSv1.3", certificate: None, name_binds: false };
    let peer = Arc::new(Peer {
        address: ([192, 0, 2, 1], 40_000).into(),
        local: ([127, 0, 0, 1], 8443).into(),
        listener: "file".into(),
        tls: (!plain).then_some(tls),
        trusted: Arc::new([]),
        redirect_port: None,
        parties: Default::default(),
    });
    let head = head::read(raw, &peer, &[], Clock::system().now());
    let head = head.map_err(|refusal| early(refusal.reason, &refusal.private))?;
    let body = bytes.get(end..).unwrap_or_default();
    match head.length {
        Length::None | Length::Exactly(_) => Ok((*head, body.to_vec(), Fields::new())),
        Length::Unknown => {
            let (body, trailers) = kept_chunks(body).map_err(|reason| {
                Exit::CouldNot(format!(
                    "the file's body is not whole, or its chunks are no longer as they were sent, with CRLF: {}",
                    reason.name()
                ))
            })?;
            Ok((*head, body, trailers))
        }
    }
}

/// Lines as they are sent, up to the end of the head.
fn with_crlf(bytes: &[u8]) -> Vec<u8> {
    let mut sent = Vec::with_capacity(bytes.len() + 64);
    let mut rest = bytes;
    while let Some((line, following)) = rest
        .iter()
        .position(|byte| *byte == b'\n')
        .and_then(|at| Some((rest.get(..at)?, rest.get(at + 1..)?)))
    {
        sent.extend_from_slice(line);
        sent.extend_from_slice(b"\r\n");
        rest = following;
        if line.is_empty() {
            break;
        }
    }
    sent.extend_from_slice(rest);
    sent
}

/// Whether the body of a file is the one whose digest its head declares; nothing without either.
fn body_says(head: &Head, body: &[u8]) -> Option<Result<(), Reason>> {
    if body.is_empty() {
        return None;
    }
    match Expected::from_headers(&head.headers) {
        Ok(None) => None,
        Ok(Some(expected)) => Some(expected.verify(body)),
        Err(reason) => Some(Err(reason)),
    }
}

fn refused(refusal: &Refusal) -> Exit {
    Exit::CouldNot(format!(
        "the gateway refuses the signature: {}, {}",
        refusal.reason.name(),
        refusal.private
    ))
}

fn read(file: &Path) -> Result<Vec<u8>, Exit> {
    let wrong = |error: std::io::Error| {
        Exit::CouldNot(format!("{} cannot be read: {error}", file.display()))
    };
    let mut bytes = Vec::new();
    let mut from: Box<dyn std::io::Read> = match file.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => Box::new(std::fs::File::open(file).map_err(wrong)?),
    };
    (&mut from).take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(wrong)?;
    Ok(bytes)
}

fn show(examined: &Examined, theirs: Option<&[u8]>, bytes: bool) {
    let Examined { label, keyid, algorithm, created, expires, base } = examined;
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let time = |at: &Option<u64>| at.map_or_else(|| "-".to_owned(), |at| at.to_string());
    print(&format!(
        "signature  {label}   keyid {}   alg {}   created {}   expires {}",
        or_none(keyid),
        or_none(algorithm),
        time(created),
        time(expires)
    ));
    for (whose, base, other) in
        [("gateway", Some(base.as_slice()), theirs), ("client", theirs, Some(base))]
    {
        let Some(base) = base else { continue };
        let hash: String =
            digest(&SHA256, base).as_ref().iter().map(|b| format!("{b:02x}")).collect();
        print("");
        print(&format!("{whose}'s base   {} bytes   sha-256 {hash}", base.len()));
        for line in base.split(|byte| *byte == b'\n') {
            print(&format!("  {}", escaped(line)));
        }
        if bytes {
            print("");
            rows(base, other).iter().for_each(|row| print(row));
        }
    }
    print("");
}

/// The bytes in rows of sixteen; those that differ from the other base are marked.
fn rows(base: &[u8], other: Option<&[u8]>) -> Vec<String> {
    let row = |(number, row): (usize, &[u8])| {
        let at = number * ROW;
        let same = other.is_none_or(|other| {
            let end = other.len().min(at + ROW);
            other.get(at.min(end)..end) == Some(row)
        });
        let hex: String = row.iter().map(|byte| format!("{byte:02x} ")).collect();
        let text: String = row
            .iter()
            .map(|byte| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '.' })
            .collect();
        format!("{} {at:06x}  {hex:<48} {text}", if same { ' ' } else { '>' })
    };
    base.chunks(ROW).enumerate().map(row).collect()
}

/// Tells where two bases part; whether they do not.
fn compare(ours: &[u8], theirs: &[u8]) -> bool {
    let Some(at) = first_difference(ours, theirs) else {
        print("bases      are the same, byte for byte");
        return true;
    };
    let before = ours.get(..at).unwrap_or_default();
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    print(&format!("bases      differ first at byte {at}, line {line}, column {}", at - start + 1));
    let shown = |base: &[u8]| {
        let rest = base.get(start..).unwrap_or_default();
        escaped(rest.split(|byte| *byte == b'\n').next().unwrap_or_default())
    };
    let mark = escaped(before.get(start..).unwrap_or_default()).chars().count();
    print(&format!("  gateway  {}", shown(ours)));
    print(&format!("  client   {}", shown(theirs)));
    print(&format!(
        "           {}^ {} here, {} there",
        " ".repeat(mark),
        byte(ours, at),
        byte(theirs, at)
    ));
    if theirs.strip_suffix(b"\n") == Some(ours) {
        print("  a base has no line feed at its end (RFC 9421, section 2.5)");
    }
    false
}

fn first_difference(ours: &[u8], theirs: &[u8]) -> Option<usize> {
    let same = ours.iter().zip(theirs).take_while(|(ours, theirs)| ours == theirs).count();
    (same < ours.len().max(theirs.len())).then_some(same)
}

fn byte(base: &[u8], at: usize) -> String {
    match base.get(at) {
        Some(byte) => format!("{byte:02x} '{}'", byte.escape_ascii()),
        None => "the end".to_owned(),
    }
}

/// A line with whatever does not print made visible.
fn escaped(line: &[u8]) -> String {
    let shown = |byte: &u8| match byte {
        b' '..=b'~' => char::from(*byte).to_string(),
        other => other.escape_ascii().to_string(),
    };
    line.iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_part_at_the_first_byte_that_differs() {
        for (ours, theirs, at) in [
            ("a", "a", None),
            ("", "", None),
            ("abc", "abd", Some(2)),
            ("abc", "abc\n", Some(3)),
            ("abc\n", "abc", Some(3)),
            ("", "x", Some(0)),
        ] {
            assert_eq!(first_difference(ours.as_bytes(), theirs.as_bytes()), at, "{ours} {theirs}");
        }
    }

    #[test]
    fn rows_that_differ_are_marked() {
        let (ours, theirs) = (b"0123456789abcdefXYZ\t", b"0123456789abcdefXYz\t");
        let rows = rows(ours, Some(theirs));
        assert_eq!(rows.len(), 2);
        assert!(rows[0].starts_with("  000000  30 31 32"), "{rows:?}");
        assert!(rows[1].starts_with("> 000010  58 59 5a 09"), "{rows:?}");
        assert!(rows[1].ends_with("XYZ."), "{rows:?}");
    }

    #[test]
    fn only_the_head_of_a_file_gets_carriage_returns() {
        assert_eq!(
            with_crlf(b"GET / HTTP/1.1\nHost: a\n\n{\n}\n"),
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n{\n}\n"
        );
    }
}
