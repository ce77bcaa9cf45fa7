//! What operators get wrong, and what `check` says to it: each folder under `mistakes/` is a broken
//! configuration beside the text that must be printed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rcgen::{CertificateParams, KeyPair};

use crate::harness::Service;

/// Each example, with the codes that it shows. Codes that begin with W stop nothing.
const EXAMPLES: &[(&str, &[&str])] = &[
    ("advice-at-rest", &["W0414", "W0415"]),
    ("advice-beside", &["W0416"]),
    ("advice-doors", &["W0404", "W0430"]),
    ("advice-keys", &["W0421"]),
    ("advice-policy", &["W0402", "W0403", "W0404", "W0405", "W0408", "W0411"]),
    ("advice-process", &["W0401", "W0406", "W0407", "W0412"]),
    ("advice-weaker", &["W0405"]),
    ("bad-addresses", &["P0301"]),
    ("bad-auth", &["P0103", "P0211"]),
    ("bad-certificates", &["P0302"]),
    ("bad-circumstances", &["P0103", "P0204", "P0209"]),
    ("bad-client-certificates", &["P0103", "P0105", "P0302"]),
    ("bad-exceptions", &["P0103", "P0209", "W0408"]),
    ("bad-expressions", &["P0213"]),
    ("bad-identities", &["P0103", "P0105", "P0201", "P0204"]),
    ("bad-keys", &["P0103", "P0106"]),
    ("bad-limits", &["P0207", "W0408"]),
    ("bad-names", &["P0106"]),
    ("bad-patterns", &["P0202"]),
    ("bad-rewrites", &["P0212"]),
    ("bad-rewrites-reaching", &["P0212"]),
    ("bad-schemas", &["P0001", "P0206"]),
    ("bad-self-service", &["P0102", "P0103", "P0222"]),
    ("bad-tests", &["P0103", "P0208"]),
    ("bad-tokens", &["P0001", "P0103", "P0104", "P0204", "P0221", "P0301", "P0303"]),
    ("circles", &["P0103", "P0201"]),
    ("closed-doors", &["P0204"]),
    ("collisions", &["P0203", "W0403"]),
    ("defined-twice", &["P0105"]),
    ("expired", &["P0210", "W0408"]),
    ("exposed-development", &["P0306", "W0414"]),
    ("inline-secrets", &["P0303"]),
    ("missing-keys", &["P0104"]),
    ("no-configuration", &["P0001"]),
    ("no-doors", &["P0205"]),
    ("no-listener", &["P0305"]),
    ("no-policy", &["P0001"]),
    ("no-policy-directory", &["P0001"]),
    ("open-secrets", &["P0001", "P0304"]),
    ("syntax", &["P0101"]),
    ("undefined-names", &["P0201", "W0408"]),
    ("unfit-bodies", &["P0103"]),
    ("unfit-listeners", &["P0103"]),
    ("unknown-keys", &["P0102", "P0205"]),
    ("wrong-types", &["P0103", "W0408"]),
    ("wrong-values", &["P0103"]),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/mistakes")
}

/// A sound configuration with one example's files laid over it, in a folder of its own.
fn laid_out(example: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    lay(&folder().join("base"), dir.path());
    lay(&folder().join(example), dir.path());
    if let Ok(names) = fs::read_to_string(dir.path().join("remove")) {
        for name in names.lines() {
            fs::remove_file(dir.path().join(name)).unwrap();
        }
    }
    for extra in ["remove", "expected.txt"] {
        let _ = fs::remove_file(dir.path().join(extra));
    }
    match example {
        "bad-certificates" => {
            write_certificate(dir.path(), "expired", -1);
            write_certificate(dir.path(), "other", 365);
            write_certificate(dir.path(), "cert", 365);
        }
        "advice-at-rest" => {
            write_certificate(dir.path(), "cert", 365);
            set_mode(&dir.path().join("cert.key"), 0o644);
        }
        "bad-client-certificates" => write_certificate(dir.path(), "cert", 365),
        "advice-process" => write_certificate(dir.path(), "expiring", 10),
        "open-secrets" => {
            write_secret(dir.path(), "identity.secret", 0o644);
            write_secret(dir.path(), "pepper.secret", 0o640);
        }
        _ => {}
    }
    dir
}

fn lay(from: &Path, onto: &Path) {
    fs::create_dir_all(onto).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = onto.join(entry.file_name());
        if entry.path().is_dir() {
            lay(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A certificate that holds for so many whole days from now, and its key.
fn write_certificate(dir: &Path, name: &str, days: i64) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = time::OffsetDateTime::from_unix_timestamp(now.as_secs().try_into().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    parameters.not_before = now - time::Duration::days(400);
    parameters.not_after = now + time::Duration::days(days) + time::Duration::hours(1);
    let certificate = parameters.self_signed(&key).unwrap();
    fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
    let path = dir.join(format!("{name}.key"));
    fs::write(&path, key.serialize_pem()).unwrap();
    set_mode(&path, 0o600);
}

fn write_secret(dir: &Path, name: &str, mode: u32) {
    fs::write(dir.join(name), "0123456789abcdef0123456789abcdef0123456789abcdef\n").unwrap();
    set_mode(&dir.join(name), mode);
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn portcullis(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(arguments)
        .args(["--color", "never"])
        .current_dir(dir)
        .env_remove("PORTCULLIS_CONFIG")
        .env_remove("CREDENTIALS_DIRECTORY")
        .output()
        .unwrap()
}

fn talk(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The codes in a report, such as `P0203` in `error[P0203]`.
fn codes(report: &str) -> BTreeSet<String> {
    let levels = ["error[", "warning["];
    let code = |line: &str| {
        let rest = levels.iter().find_map(|level| line.strip_prefix(level))?;
        rest.split_once(']').map(|(code, _)| code.to_owned())
    };
    report.lines().filter_map(code).collect()
}

fn is_advice_only(expected: &[&str]) -> bool {
    expected.iter().all(|code| code.starts_with('W'))
}

/// Every file below a directory, with what it holds.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(next) = left.pop() {
        found.insert(next.clone(), Vec::new());
        for entry in fs::read_dir(next).unwrap().flatten() {
            if entry.path().is_dir() {
                left.push(entry.path());
            } else {
                found.insert(entry.path(), fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}

#[test]
fn every_folder_is_an_example_and_every_code_is_shown() {
    let mut folders: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    folders.remove("base");
    let named: BTreeSet<String> = EXAMPLES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(folders, named);
    let mut shown: BTreeSet<&str> =
        EXAMPLES.iter().flat_map(|(_, codes)| codes.iter().copied()).collect();
    // It takes a service that runs, and has a test of its own below.
    shown.insert("W0420");
    let known: BTreeSet<&str> =
        portcullis::mistake::code::Code::ALL.iter().map(|code| code.number()).collect();
    assert_eq!(shown, known);
}

#[test]
fn what_every_example_starts_from_is_sound() {
    let dir = laid_out("base");
    let output = portcullis(dir.path(), &["check", "--deny-warnings"]);
    assert_eq!(output.status.code(), Some(0), "{}", talk(&output));
    assert_eq!(talk(&output), "");
}

/// Run with `UPDATE_EXPECTED=1` to write what is printed now; then read it as an operator would.
#[test]
fn check_says_what_is_expected_of_every_example() {
    let mut wrong = Vec::new();
    for (name, expected_codes) in EXAMPLES {
        let dir = laid_out(name);
        let output = portcullis(dir.path(), &["check"]);
        let said = talk(&output);
        let path = folder().join(name).join("expected.txt");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&path, &said).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if said != expected {
            wrong.push(format!("{name}: expected\n{expected}\nbut check said\n{said}"));
        }
        let shown = codes(&said);
        let shown: BTreeSet<&str> = shown.iter().map(String::as_str).collect();
        if shown != expected_codes.iter().copied().collect() {
            wrong.push(format!("{name}: expected {expected_codes:?}, but check told {shown:?}"));
        }
        let code = i32::from(!is_advice_only(expected_codes));
        if output.status.code() != Some(code) {
            wrong.push(format!("{name}: exit {:?} instead of {code}", output.status.code()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn check_changes_nothing_on_the_disk() {
    for name in ["base", "syntax", "advice-process", "exposed-development"] {
        let dir = laid_out(name);
        let before = contents(dir.path());
        portcullis(dir.path(), &["check"]);
        assert_eq!(contents(dir.path()), before, "{name}");
    }
}

#[test]
fn no_broken_example_starts_and_none_leaves_anything_behind() {
    let mut wrong = Vec::new();
    for (name, codes_expected) in EXAMPLES.iter().filter(|(_, codes)| !is_advice_only(codes)) {
        let dir = laid_out(name);
        let before = contents(dir.path());
        let output = portcullis(dir.path(), &["run"]);
        let said = talk(&output);
        if output.status.code() != Some(2) {
            wrong.push(format!("{name}: exit {:?}\n{said}", output.status.code()));
        }
        let errors = codes_expected.iter().filter(|code| code.starts_with('P'));
        let told = codes(&said);
        if let Some(untold) = errors.copied().find(|code| !told.contains(*code)) {
            wrong.push(format!("{name}: {untold} is not told at start\n{said}"));
        }
        let after = contents(dir.path());
        let left: Vec<_> = after.keys().filter(|path| !before.contains_key(*path)).collect();
        if !left.is_empty() {
            wrong.push(format!("{name}: left behind {left:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn advice_stops_only_those_who_ask_for_it() {
    for (name, _) in EXAMPLES.iter().filter(|(_, codes)| is_advice_only(codes)) {
        let dir = laid_out(name);
        assert_eq!(portcullis(dir.path(), &["check"]).status.code(), Some(0), "{name}");
        let denied = portcullis(dir.path(), &["check", "--deny-warnings"]);
        assert_eq!(denied.status.code(), Some(1), "{name}");
    }
}

#[test]
fn programs_get_the_same_findings_as_one_document() {
    for (name, expected_codes) in EXAMPLES {
        let dir = laid_out(name);
        let output = portcullis(dir.path(), &["check", "--format", "json"]);
        assert_eq!(talk(&output), "", "{name}");
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["schema"], "portcullis.check/1");
        let mistakes = document["mistakes"].as_array().unwrap();
        let told: BTreeSet<&str> =
            mistakes.iter().map(|mistake| mistake["code"].as_str().unwrap()).collect();
        assert_eq!(told, expected_codes.iter().copied().collect(), "{name}");
        let errors = mistakes.iter().filter(|mistake| mistake["level"] == "error").count();
        assert_eq!(document["errors"], errors);
        assert_eq!(document["warnings"], mistakes.len() - errors);
        for mistake in mistakes.iter().filter(|mistake| !mistake["place"].is_null()) {
            let place = &mistake["place"];
            let text =
                fs::read_to_string(dir.path().join(place["file"].as_str().unwrap())).unwrap();
            let line = text.lines().nth(place["line"].as_u64().unwrap() as usize - 1);
            let columns = line.map_or(0, |line| line.chars().count() + 1);
            assert!(place["column"].as_u64().unwrap() as usize <= columns, "{name}: {mistake}");
        }
    }
}

#[test]
fn no_secret_that_stands_in_a_file_is_repeated() {
    let dir = laid_out("inline-secrets");
    for format in ["text", "json"] {
        let output = portcullis(dir.path(), &["check", "--format", format]);
        let told = format!("{}{}", talk(&output), String::from_utf8_lossy(&output.stdout));
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[test]
fn every_code_can_be_explained() {
    let dir = tempfile::tempdir().unwrap();
    for code in portcullis::mistake::code::Code::ALL {
        let output = portcullis(dir.path(), &["check", "--explain", code.number()]);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&output.stdout).starts_with(code.number()));
    }
    assert_eq!(portcullis(dir.path(), &["check", "--explain", "P9999"]).status.code(), Some(2));
}

#[test]
fn another_directory_is_checked_where_it_stands() {
    let dir = laid_out("base");
    lay(&folder().join("no-doors/policies"), &dir.path().join("candidate"));
    assert_eq!(portcullis(dir.path(), &["check"]).status.code(), Some(0));
    let output = portcullis(dir.path(), &["check", "candidate"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(talk(&output).contains("candidate/broken.toml:"), "{}", talk(&output));
}

/// A server that answers whatever comes in plain HTTP, as web servers answer what is no request.
fn speaks_no_tls() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().take(4).flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    address
}

#[test]
fn check_connects_to_upstreams_and_tells_which_let_strangers_in() {
    let answering = |status: &'static str| {
        Service::answering(move |_| format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"))
    };
    let (open, guarded) = (answering("200 OK"), answering("401 Unauthorized"));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let policies = dir.path().join("policies");
    std::fs::create_dir(&policies).unwrap();
    let route = |name: &str| {
        format!(
            "[routes.{name}]\nsummary = \"x\"\nmatch = \"GET /v1/{name}\"\nupstream = \"{name}\"\nallow = [{{ anyone = true }}]\n"
        )
    };
    let check = |upstreams: &[(&str, String)], arguments: &[&str]| {
        let mut config = "version = 1\n[[listener]]\nbind = [\"127.0.0.1:0\"]\n".to_owned();
        let mut policy = "version = 1\nname = \"test\"\n".to_owned();
        for (name, target) in upstreams {
            config.push_str(&format!("[upstreams.{name}]\ntargets = [\"{target}\"]\n"));
            policy.push_str(&route(name));
        }
        std::fs::write(dir.path().join("gateway.toml"), config).unwrap();
        std::fs::write(policies.join("policy.toml"), policy).unwrap();
        let arguments = [&["check", "--connect"], arguments].concat();
        let output = portcullis(dir.path(), &arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let at = |address: std::net::SocketAddr| format!("http://{address}");
    let both = [("guarded", at(guarded.address)), ("open", at(open.address))];

    let (code, told, talk) = check(&both[..1], &[]);
    assert_eq!(code, Some(0), "{told}{talk}");
    assert!(told.contains("reached, and refuses strangers (GET /v1/guarded gets 401"), "{told}");
    assert!(guarded.requests()[0].starts_with("GET /v1/guarded HTTP/1.1\r\n"));
    assert!(!guarded.requests()[0].to_lowercase().contains("identity"));

    let (code, told, talk) = check(&both, &[]);
    assert_eq!(code, Some(0), "{told}{talk}");
    assert!(
        talk.contains("W0420") && talk.contains("`open` answers 200 to GET /v1/open"),
        "{talk}"
    );
    assert!(!talk.contains("`guarded`"), "{talk}");
    assert_eq!(check(&both, &["--deny-warnings"]).0, Some(1));

    let away = [("away", at(nobody)), ("plain", format!("https://{}", speaks_no_tls()))];
    let (code, told, talk) = check(&away, &[]);
    assert_eq!(code, Some(3), "{told}{talk}");
    assert!(told.contains("upstream away") && told.contains("it takes no connection"), "{told}");
    assert!(told.contains("it does not speak TLS there; write http://"), "{told}");
    let (code, told, _) = check(&away, &["--format", "json"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &told["connect"][0]["result"]), (Some(3), &"unreachable".into()));
}
