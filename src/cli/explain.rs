//! `explain`: walks one request through the policy, or asks the running gateway about one that came.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use http::{HeaderName, HeaderValue, Method};
use serde_json::json;

use crate::authorize::vocabulary::Vocabulary;
use crate::cli::admin::Admin;
use crate::cli::check::rehearsal;
use crate::cli::exit::{Exit, print};
use crate::cli::{Ended, Format, Globals};
use crate::fields::Fields;
use crate::mistake::source::{Origin, Source};
use crate::mistake::suggest;
use crate::policy::case::{Case, CaseCaller, CaseRequest, Decision as Wanted, ExpectRule};
use crate::rehearse::decision::Decision;
use crate::rehearse::outcome::in_words;
use crate::rehearse::walk::{Explanation, StageSays};

/// A body on the command line or in a file has at most so many bytes.
const BODY_BYTES_MAX: u64 = 64 << 20;

/// Options of `explain`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  portcullis explain DELETE /v1/tasks/task_1 --as sub=u-7,role=member,scope=tasks:delete,tier=pro\n  portcullis explain --last-refused"
)]
pub struct Options {
    /// The method.
    #[arg(required_unless_present_any = ["trace", "last_refused"], requires = "target")]
    method: Option<Method>,
    /// The target: path and query.
    target: Option<String>,
    /// Who calls, for example sub=u-7,role=member,scope=tasks:read,tier=free; role and scope may
    /// be repeated, and certificate=NAME shows a client certificate. Left out: nobody.
    #[arg(long = "as", value_name = "FACTS")]
    caller: Option<Facts>,
    /// The request is signed as its route demands.
    #[arg(long, requires = "caller")]
    signed: bool,
    /// The caller's address.
    #[arg(long, value_name = "ADDRESS", default_value = "192.0.2.1")]
    from: IpAddr,
    /// The host that is asked.
    #[arg(long, default_value = "localhost")]
    host: String,
    /// A header; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<Header>,
    /// The body, or @FILE; its type is application/json unless a header says otherwise.
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,
    /// The policy directory; default: the one that the configuration names.
    #[arg(long, value_name = "DIR")]
    policy: Option<PathBuf>,
    /// Ask the running gateway about the request with this id instead (X-Request-Id).
    #[arg(long, value_name = "ID", conflicts_with_all = ["method", "last_refused"])]
    trace: Option<String>,
    /// Ask the running gateway about the last request that it refused.
    #[arg(long, conflicts_with = "method")]
    last_refused: bool,
    /// How to print.
    #[arg(long, default_value = "text")]
    format: Format,
}

/// The facts of a caller: `sub=u-7,role=member`.
#[derive(Clone, Debug)]
struct Facts(CaseCaller);

/// A header as it is written: `name: value`.
#[derive(Clone, Debug)]
pub struct Header(pub HeaderName, pub HeaderValue);

/// Explains.
pub fn run(globals: &Globals, options: &Options) -> Ended {
    let (explanation, asked) = match (&options.trace, options.last_refused) {
        (Some(id), _) => recorded(globals, &format!("/v1/decisions/{}", path_segment(id)?))?,
        (None, true) => recorded(globals, "/v1/decisions/last-refused")?,
        (None, false) => rehearsed(globals, options)?,
    };
    match options.format {
        Format::Text => show(&asked, &explanation),
        Format::Json => {
            let explained = json!(explanation);
            let schema = "portcullis.explain/1";
            print(&json!({ "schema": schema, "asked": asked, "explained": explained }).to_string());
        }
    }
    Ok(if explanation.is_allowed() { Exit::Fine } else { Exit::Found })
}

/// What the running gateway decided, and the lines that say of which request.
fn recorded(globals: &Globals, path: &str) -> Result<(Explanation, Vec<String>), Exit> {
    let answer = Admin::find(globals)?.call(Method::GET, path, None)?;
    let decision = Decision::read(&answer.to_string()).map_err(Exit::CouldNot)?;
    let who = decision.subject.as_deref().unwrap_or("nobody");
    let query = if decision.query.is_empty() {
        String::new()
    } else {
        format!("?{}", decision.query.join("&"))
    };
    let asked = vec![
        format!(
            "request   {} {}{query}   from {}   as {who}",
            decision.method, decision.path, decision.client
        ),
        format!("trace     {}   {}", decision.id, decision.time),
        format!("policy    sha256:{}", short(&decision.policy)),
    ];
    Ok((Explanation::of(&decision), asked))
}

/// What the policy in the files decides, and the lines that say of which request.
fn rehearsed(globals: &Globals, options: &Options) -> Result<(Explanation, Vec<String>), Exit> {
    let case = case(options)?;
    let rehearsal = rehearsal(globals, options.policy.as_deref())?;
    case.caller
        .as_ref()
        .map_or(Ok(()), |caller| defined(caller, rehearsal.policy().vocabulary()))?;
    let explanation = rehearsal.explain(&case).map_err(Exit::CouldNot)?;
    let who = case.caller.as_ref().map_or_else(|| "nobody".to_owned(), in_words);
    let policy = rehearsal.policy();
    let request = &case.request;
    let asked = vec![
        format!(
            "request   {} {}   from {}   as {who}",
            request.method, request.target, request.from
        ),
        format!(
            "policy    {} sha256:{}   {} files",
            policy.name(),
            short(policy.hash()),
            rehearsal.files()
        ),
    ];
    Ok((explanation, asked))
}

/// Whether the policy defines every name of a caller; a misspelt one would explain another caller.
fn defined(caller: &CaseCaller, vocabulary: &Vocabulary) -> Result<(), Exit> {
    let roles: Vec<&str> = vocabulary.roles().map(|(name, _)| name).collect();
    let scopes: Vec<&str> = vocabulary.scopes().map(|(name, _)| name).collect();
    let tiers: Vec<&str> = vocabulary.tiers().map(|(name, _)| name).collect();
    let named = (caller.roles.iter().map(|role| ("role", role, &roles)))
        .chain(caller.scopes.iter().map(|scope| ("scope", scope, &scopes)))
        .chain(caller.tier.iter().map(|tier| ("tier", tier, &tiers)));
    for (kind, name, known) in named {
        if !known.contains(&name.as_str()) {
            let help = suggest(name, known.iter().copied());
            return Err(Exit::CouldNot(format!("{kind} `{name}` is not defined; {help}")));
        }
    }
    Ok(())
}

/// The request of the command line, as a test that expects nothing.
fn case(options: &Options) -> Result<Case, Exit> {
    let (Some(method), Some(target)) = (&options.method, &options.target) else {
        return Err(Exit::CouldNot(
            "name a method and a target, for example GET /v1/tasks".to_owned(),
        ));
    };
    let mut headers = Fields::new();
    for Header(name, value) in &options.headers {
        headers.append(name.clone(), value.clone());
    }
    let body = options.body.as_deref().map(body_bytes).transpose()?;
    let body = body.map(String::from_utf8).transpose();
    let body = body.map_err(|_| Exit::CouldNot("the body is not UTF-8".to_owned()))?;
    let caller =
        options.caller.clone().map(|Facts(caller)| CaseCaller { signed: options.signed, ..caller });
    let source = Source::new("command line", "");
    let request = CaseRequest {
        method: method.clone(),
        target: target.clone(),
        host: options.host.clone(),
        headers,
        from: options.from,
        body,
    };
    Ok(Case {
        name: "explain".to_owned(),
        origin: Origin::new("explain", &source.place(0..0)),
        request,
        caller,
        repeat: 1,
        now_ms: None,
        upstream: (http::StatusCode::OK, Fields::new(), String::new()),
        expect: ExpectRule::only(Wanted::Allow),
    })
}

fn show(asked: &[String], explanation: &Explanation) {
    asked.iter().for_each(|line| print(line));
    print("");
    for (number, says) in explanation.stages.iter().enumerate() {
        stage(number + 1, says);
    }
    print("");
    let reason =
        explanation.reason.as_deref().map_or_else(String::new, |reason| format!(" {reason}"));
    print(&format!("answer    {}{reason}", explanation.status));
    for seen in &explanation.observed {
        print(&format!("observed  {seen}"));
    }
    if let Some(hint) = &explanation.hint {
        print(&format!("allow it on purpose:  {hint}"));
    }
}

fn stage(number: usize, says: &StageSays) {
    let mark = match says.verdict {
        "pass" => "pass",
        "refuse" => "REFUSE",
        _ => "—",
    };
    let StageSays { stage, says: text, rule, place, lines, .. } = says;
    let rule = rule.as_deref().filter(|rule| rule != text).unwrap_or_default();
    let place = place.as_deref().unwrap_or_default();
    let columns = [text.as_str(), rule, place];
    let rest =
        columns.iter().filter(|column| !column.is_empty()).copied().collect::<Vec<_>>().join("   ");
    print(format!("{number:>2} {stage:<13} {mark:<8} {rest}").trim_end());
    for line in lines {
        print(&format!("{:<26}{line}", ""));
    }
}

/// The bytes of a body: the text itself, or what stands in the file behind `@`.
///
/// # Errors
/// When the file cannot be read, or is longer than 64 MiB.
pub fn body_bytes(written: &str) -> Result<Vec<u8>, Exit> {
    let Some(path) = written.strip_prefix('@') else { return Ok(written.as_bytes().to_vec()) };
    let bytes = std::fs::metadata(path).and_then(|facts| match facts.len() {
        0..=BODY_BYTES_MAX => std::fs::read(path),
        _ => Err(std::io::Error::other("it is longer than 64 MiB")),
    });
    bytes.map_err(|error| Exit::CouldNot(format!("{path} cannot be read: {error}")))
}

fn path_segment(id: &str) -> Result<&str, Exit> {
    let plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if plain {
        Ok(id)
    } else {
        Err(Exit::CouldNot("a request's id has letters and digits only".to_owned()))
    }
}

fn short(hash: &str) -> &str {
    hash.get(..8).unwrap_or(hash)
}

impl std::str::FromStr for Facts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut caller = CaseCaller::default();
        for fact in text.split(',') {
            match fact.split_once('=') {
                Some(("sub", value)) if caller.sub.is_empty() => caller.sub = value.to_owned(),
                Some(("role", value)) => caller.roles.push(value.to_owned()),
                Some(("scope", value)) => caller.scopes.push(value.to_owned()),
                Some(("tier", value)) if caller.tier.is_none() => {
                    caller.tier = Some(value.to_owned())
                }
                Some(("certificate", value)) if caller.certificate.is_none() => {
                    caller.certificate = Some(value.to_owned());
                }
                _ => {
                    return Err(format!(
                        "`{fact}` is no fact; write sub=, role=, scope=, tier= or certificate="
                    ));
                }
            }
        }
        if caller.sub.is_empty() {
            return Err("say who it is: sub=NAME".to_owned());
        }
        Ok(Self(caller))
    }
}

impl std::str::FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once(':').and_then(|(name, value)| {
            Some((name.trim().parse().ok()?, HeaderValue::from_str(value.trim()).ok()?))
        });
        let (name, value) =
            parsed.ok_or_else(|| format!("`{text}` is no header; write \"name: value\""))?;
        Ok(Self(name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_and_wrong_ones_named() {
        let Facts(caller) =
            "sub=u-7,role=member,role=admin,scope=tasks:read,tier=free".parse().unwrap();
        assert_eq!((caller.sub.as_str(), caller.tier.as_deref()), ("u-7", Some("free")));
        assert_eq!(
            (caller.roles, caller.scopes),
            (vec!["member".to_owned(), "admin".to_owned()], vec!["tasks:read".to_owned()])
        );
        assert!("sub=u-7,rol=member".parse::<Facts>().unwrap_err().contains("`rol=member`"));
        assert!("role=member".parse::<Facts>().is_err());
        assert!("sub=a,sub=b".parse::<Facts>().is_err());
    }
}
