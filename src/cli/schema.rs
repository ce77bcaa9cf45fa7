//! `schema`: the JSON Schemas of the two kinds of file, the metrics, the reasons.

use clap::{Args, ValueEnum};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::cli::Ended;
use crate::cli::exit::{Exit, print};
use crate::config::rule::GatewayFile;
use crate::policy::rule::PolicyFile;
use crate::record::families;
use crate::refusal::Reason;

/// Options of `schema`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  portcullis schema policy > policies/schema/policy.v1.json\n  portcullis schema reasons"
)]
pub struct Options {
    /// What to print.
    of: Of,
}

/// What can be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Of {
    /// JSON Schema of policies/*.toml.
    Policy,
    /// JSON Schema of gateway.toml.
    Gateway,
    /// All metrics, with their labels.
    Metrics,
    /// All reasons, with stage and status.
    Reasons,
}

/// Prints it.
pub fn run(options: &Options) -> Ended {
    match options.of {
        Of::Policy | Of::Gateway => print(text(options.of).trim_end()),
        Of::Metrics => {
            for row in families::all() {
                print(&format!("{} {{{}}}  {}", row.name, row.labels.join(", "), row.help));
            }
        }
        Of::Reasons => {
            for reason in Reason::ALL {
                let status = reason.status().as_u16();
                print(&format!(
                    "{:<28} {status} {:<12} {}",
                    reason.name(),
                    reason.stage(),
                    reason.message()
                ));
            }
        }
    }
    Ok(Exit::Fine)
}

/// The JSON Schema (draft 7, which every TOML editor reads) of a kind of file.
pub fn text(of: Of) -> String {
    let generator = SchemaSettings::draft07().into_generator();
    let (schema, id) = match of {
        Of::Gateway => (generator.into_root_schema_for::<GatewayFile>(), "gateway.v1.json"),
        Of::Policy | Of::Metrics | Of::Reasons => {
            (generator.into_root_schema_for::<PolicyFile>(), "policy.v1.json")
        }
    };
    let mut root = Map::new();
    root.insert("$id".to_owned(), json!(id));
    root.insert("x-tombi-toml-version".to_owned(), json!("v1.0.0"));
    if let Value::Object(schema) = schema.to_value() {
        root.extend(schema);
    }
    let mut text = serde_json::to_string_pretty(&root).unwrap_or_default();
    text.push('\n');
    text
}
