//! The command line: one file for each command, four exit codes for all of them.

pub mod exit;
pub mod admin;
pub mod first_run;
pub mod keyring;
pub mod facts;
pub mod threads;
pub mod start;
pub mod run;
pub mod check;
pub mod connect;
pub mod test;
pub mod fmt;
pub mod explain;
pub mod routes;
pub mod schema;
pub mod keys;
pub mod secrets;
pub mod bans;
pub mod sessions;
pub mod sign;
pub mod status;
pub mod task_service;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cli::exit::Exit;

/// A hardened gate in front of an API.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, about, max_term_width = 100)]
#[command(
    after_help = "Examples:\n  portcullis                      serve as ./gateway.toml says\n  portcullis check                find mistakes in gateway.toml and policies/\n\nExit codes: 0 fine, 1 found something, 2 could not, 3 unreachable."
)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Options that every command knows.
#[derive(Clone, Debug, Args)]
pub struct Globals {
    /// How the process runs.
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        env = "PORTCULLIS_CONFIG",
        default_value = "gateway.toml"
    )]
    pub config: PathBuf,
    /// The running gateway's admin listener; default: the one that the configuration names.
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub admin: Option<String>,
    /// A file with the admin token; default: the one that the configuration names.
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// When to use colours.
    #[arg(long, global = true, default_value = "auto")]
    pub color: Colour,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Colour {
    /// Whether to colour what goes to this stream.
    pub fn for_stream(self, stream: &impl std::io::IsTerminal) -> bool {
        match self {
            Self::Auto => {
                stream.is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON document, for programs.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the gateway (the default when no command is given)
    Run(run::Options),
    /// Find mistakes in gateway.toml and the policy
    Check(check::Options),
    /// Run the tests that stand beside the policy's rules
    Test(test::Options),
    /// Bring policy files into one layout
    Fmt(fmt::Options),
    /// Walk one request through the policy, and say what each stage says
    Explain(explain::Options),
    /// List the routes: who, how much, what
    Routes(routes::Options),
    /// Print the JSON Schema of a file, the list of metrics or of reasons
    Schema(schema::Options),
    /// Create, list, show, rotate, suspend, resume, revoke, import and find API keys
    #[command(subcommand)]
    Keys(keys::options::Command),
    /// Give the store a new master key
    #[command(subcommand)]
    Secrets(secrets::Command),
    /// List and lift bans of addresses
    #[command(subcommand)]
    Bans(bans::Command),
    /// Revoke tokens and sessions, and list what is revoked
    #[command(subcommand)]
    Sessions(sessions::Command),
    /// Sign a request (RFC 9421) and print it ready for curl
    Sign(sign::Options),
    /// Ask the running gateway to load its policy again
    Reload,
    /// Versions, policy, upstreams and certificates of the running gateway
    Status(status::Options),
    /// Exit 0 when the running gateway is ready; for container health checks
    Health,
    /// Serve the bundled task service alone
    TaskService(task_service::Options),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let Cli { globals, command } = Cli::parse();
    let ended = match command {
        None => run::run(&globals, &run::Options::default()),
        Some(Command::Run(options)) => run::run(&globals, &options),
        Some(Command::Check(options)) => check::run(&globals, &options),
        Some(Command::Test(options)) => test::run(&globals, &options),
        Some(Command::Fmt(options)) => fmt::run(&globals, &options),
        Some(Command::Explain(options)) => explain::run(&globals, &options),
        Some(Command::Routes(options)) => routes::run(&globals, &options),
        Some(Command::Schema(options)) => schema::run(&options),
        Some(Command::Keys(command)) => keys::run(&globals, command),
        Some(Command::Secrets(command)) => secrets::run(&globals, command),
        Some(Command::Bans(command)) => bans::run(&globals, command),
        Some(Command::Sessions(command)) => sessions::run(&globals, command),
        Some(Command::Sign(options)) => sign::run(&globals, &options),
        Some(Command::Reload) => status::reload(&globals),
        Some(Command::Status(options)) => status::run(&globals, &options),
        Some(Command::Health) => status::health(&globals),
        Some(Command::TaskService(options)) => task_service::run(&globals, &options),
    };
    ended.unwrap_or_else(|exit| exit).report()
}

/// What a command gives back: how it ended, or why it could not go on.
pub type Ended = Result<Exit, Exit>;
