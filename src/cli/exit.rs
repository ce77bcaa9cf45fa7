//! The four exit codes, and how a command ends with one of them.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, nothing to report.
    Fine,
    /// 1: done, and found something.
    Found,
    /// 2: could not do it, and trying again will not help.
    CouldNot(String),
    /// 3: could not reach something; trying again may help.
    Unreachable(String),
}

impl From<String> for Exit {
    fn from(says: String) -> Self {
        Self::CouldNot(says)
    }
}

impl Exit {
    /// The code for the shell. What could not be done is said on standard error.
    pub fn report(self) -> ExitCode {
        let (code, says) = match self {
            Self::Fine => (0, None),
            Self::Found => (1, None),
            Self::CouldNot(says) => (2, Some(says)),
            Self::Unreachable(says) => (3, Some(says)),
        };
        if let Some(says) = says.filter(|says| !says.is_empty()) {
            say(&format!("portcullis: {says}"));
        }
        ExitCode::from(code)
    }
}

/// Prints a line of the result on standard output.
#[expect(clippy::print_stdout, reason = "this is where commands print")]
pub fn print(line: &str) {
    println!("{line}");
}

/// Prints a line of talk on standard error.
#[expect(clippy::print_stderr, reason = "this is where commands talk")]
pub fn say(line: &str) {
    eprintln!("{line}");
}

/// Prints rows with their columns below each other.
pub fn table<const N: usize>(rows: &[[String; N]]) {
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        print(cells.join("  ").trim_end());
    }
}
