//! `check`: finds every mistake in gateway.toml and the policy, and loads nothing.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::cli::connect::{self, Tried};
use crate::cli::exit::{Exit, print, say};
use crate::cli::{Ended, Format, Globals};
use crate::clock::{Clock, Now};
use crate::config::{Config, FirstRun};
use crate::mistake::code::Code;
use crate::mistake::{Mistake, Mistakes};
use crate::rehearse::Rehearsal;

/// Options of `check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  portcullis check\n  portcullis check --connect\n  portcullis check --deny-warnings candidate/policies\n  portcullis check --explain P0203"
)]
pub struct Options {
    /// The policy directory; default: the one that the configuration names.
    path: Option<PathBuf>,
    /// Also try the upstreams and token endpoints; without it no socket is opened.
    #[arg(long)]
    connect: bool,
    /// Count advice as errors.
    #[arg(long)]
    deny_warnings: bool,
    /// Explain a code instead, for example P0203.
    #[arg(long, value_name = "CODE")]
    explain: Option<String>,
    /// How to print.
    #[arg(long, default_value = "text")]
    format: Format,
}

/// Checks, and prints everything that was found.
pub fn run(globals: &Globals, options: &Options) -> Ended {
    if let Some(number) = &options.explain {
        let code = Code::by_number(number)
            .ok_or_else(|| Exit::CouldNot(format!("there is no code `{number}`")))?;
        print(&format!("{}: {}", code.number(), code.explained()));
        return Ok(Exit::Fine);
    }
    let mut mistakes = Mistakes::default();
    let now = Clock::system().now();
    let rehearsal = look(globals, options.path.as_deref(), now, &mut mistakes);
    let tried = if options.connect && !mistakes.any_error() {
        tried(globals, rehearsal.as_ref(), &mut mistakes)?
    } else {
        Vec::new()
    };
    mistakes.sort();
    match options.format {
        Format::Text => {
            tried.iter().for_each(|tried| print(&tried.line()));
            show(&mistakes, globals);
        }
        Format::Json => print(&document(&mistakes, &tried).to_string()),
    }
    let (errors, advice) = mistakes.count();
    if options.format == Format::Text {
        if errors + advice == 0 {
            print(&format!(
                "{} and {} policy files checked: nothing to say",
                globals.config.display(),
                rehearsal.as_ref().map_or(0, Rehearsal::files)
            ));
        } else {
            say(&format!("{}.   `portcullis check --explain CODE` tells more.", mistakes.tally()));
        }
    }
    let found = errors > 0 || (options.deny_warnings && advice > 0);
    let unreachable = tried.iter().filter(|tried| tried.is_unreachable()).count();
    match (found, unreachable) {
        (true, _) => Ok(Exit::Found),
        (false, 0) => Ok(Exit::Fine),
        (false, count) => Err(Exit::Unreachable(format!("{count} of the places were not reached"))),
    }
}

/// Tries what the configuration names, and adds the advice that follows.
fn tried(
    globals: &Globals,
    rehearsal: Option<&Rehearsal>,
    mistakes: &mut Mistakes,
) -> Result<Vec<Tried>, Exit> {
    let clock = Clock::system();
    let config =
        Config::read(&globals.config, FirstRun::Assume, clock.now(), &mut Mistakes::default());
    let Some(config) = config else { return Ok(Vec::new()) };
    let policy = rehearsal.map(Rehearsal::policy).map(AsRef::as_ref);
    let tried = connect::all(&config.upstreams, policy, &clock)?;
    tried.iter().filter_map(Tried::advice).for_each(|mistake| mistakes.push(mistake));
    Ok(tried)
}

/// Looks at the configuration and at the policy, whatever is wrong with the one or the other. The
/// policy is that of `path`, or else the one that the configuration names.
pub fn look(
    globals: &Globals,
    path: Option<&Path>,
    now: Now,
    mistakes: &mut Mistakes,
) -> Option<Rehearsal> {
    let config = Config::read(&globals.config, FirstRun::Assume, now, mistakes);
    let dir = path.map(Path::to_owned).or_else(|| Config::policy_dir(&globals.config))?;
    // Without its upstreams a policy would be full of mistakes that are none of its own.
    Rehearsal::load(&dir, config.as_ref().map(|config| &config.upstreams), now, mistakes)
}

/// The policy that a command is about, ready to be rehearsed: that of `path`, or else the one that
/// the configuration names. Without a configuration file a policy stands for itself.
///
/// # Errors
/// When anything in the files must be mended; it has then been printed as `check` does.
pub fn rehearsal(globals: &Globals, path: Option<&Path>) -> Result<Rehearsal, Exit> {
    let mut mistakes = Mistakes::default();
    let now = Clock::system().now();
    let config = globals
        .config
        .exists()
        .then(|| Config::read(&globals.config, FirstRun::Assume, now, &mut mistakes));
    let config = config.flatten();
    let dir = path
        .map(Path::to_owned)
        .or_else(|| config.as_ref().map(|config| config.policy_dir.clone()));
    let dir = dir.unwrap_or_else(|| PathBuf::from("policies"));
    let upstreams = config.as_ref().map(|config| &config.upstreams);
    let rehearsal = Rehearsal::load(&dir, upstreams, now, &mut mistakes);
    if let (Some(rehearsal), false) = (rehearsal, mistakes.any_error()) {
        return Ok(rehearsal);
    }
    mistakes.sort();
    show(&mistakes, globals);
    Err(Exit::CouldNot(format!("{}; nothing was run", mistakes.tally())))
}

/// Prints mistakes for people, on standard error.
pub fn show(mistakes: &Mistakes, globals: &Globals) {
    let coloured = globals.color.for_stream(&std::io::stderr());
    for mistake in mistakes.iter() {
        say(&mistake.render(coloured));
        say("");
    }
}

/// The mistakes of a start: all of them at once, and exit code 2.
pub fn stopped(mistakes: &mut Mistakes, globals: &Globals) -> Exit {
    mistakes.sort();
    show(mistakes, globals);
    Exit::CouldNot(format!("{}; nothing was started", mistakes.tally()))
}

fn document(mistakes: &Mistakes, tried: &[Tried]) -> Value {
    let item = |mistake: &Mistake| {
        let place = mistake.place.as_ref().map(|place| {
            let (line, column) = place.source.line_and_column(place.span.start);
            json!({ "file": place.source.path, "line": line, "column": column })
        });
        json!({
            "code": mistake.code.number(),
            "level": if mistake.is_advice() { "warning" } else { "error" },
            "says": mistake.says, "place": place, "help": mistake.help,
        })
    };
    let (errors, warnings) = mistakes.count();
    json!({
        "schema": "portcullis.check/1", "errors": errors, "warnings": warnings,
        "mistakes": mistakes.iter().map(item).collect::<Vec<_>>(),
        "connect": tried.iter().map(Tried::document).collect::<Vec<_>>(),
    })
}
