//! What is printed, and where: results on stdout, everything else on stderr.
//!
//! A closed pipe (`atoll ring | head`) ends the output without a complaint.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;
use serde_json::{Value, json};

use crate::exit::{self, Exit};

/// Why a command failed: what to tell, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) exit: Exit,
    /// What programs are told beside the message.
    pub(crate) details: Option<Value>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { message: message.into(), exit, details: None }
    }
}

impl From<atoll_client::Error> for Failure {
    fn from(error: atoll_client::Error) -> Self {
        let details = json!({
            "outcome": error.outcome(),
            "retryable": error.retryable(),
            "problem": error.problem(),
        });
        Self { message: error.to_string(), exit: exit::of(&error), details: Some(details) }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(exit::FAILURE, error.to_string())
    }
}

/// The result of a command.
pub(crate) type Done = Result<Exit, Failure>;

/// Where a command prints to, and in which form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether programs read the output.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Prints one JSON document and a newline.
    pub(crate) fn document(self, document: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(document)?;
        text.push(b'\n');
        self.bytes(&text)
    }

    /// Prints one line.
    pub(crate) fn line(self, text: impl Display) -> io::Result<()> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// Prints bytes as they are.
    pub(crate) fn bytes(self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }

    /// Prints a table.
    pub(crate) fn table(self, table: &Table) -> io::Result<()> {
        self.line(trimmed(table))
    }

    /// Tells people something that is not the result. Not in the way of programs.
    pub(crate) fn note(self, text: impl Display) {
        if !self.json {
            complain(text);
        }
    }

    /// Tells why a command failed.
    pub(crate) fn failure(self, failure: &Failure) {
        if self.json {
            let document = json!({
                "error": failure.message,
                "exit_code": failure.exit.0,
                "details": failure.details,
            });
            complain(document);
        } else {
            complain(format!("atoll: {}", failure.message));
        }
    }

    /// A bar on stderr for long work; invisible unless people watch.
    pub(crate) fn progress(self, length: Option<u64>, style: &str) -> indicatif::ProgressBar {
        if self.json || !io::stderr().is_terminal() {
            return indicatif::ProgressBar::hidden();
        }
        let bar = match length {
            Some(length) => indicatif::ProgressBar::new(length),
            None => indicatif::ProgressBar::new_spinner(),
        };
        let style = indicatif::ProgressStyle::with_template(style)
            .unwrap_or_else(|_| indicatif::ProgressStyle::default_bar());
        bar.with_style(style)
    }
}

/// One line on stderr. Where stderr is gone there is nobody to tell.
pub(crate) fn complain(text: impl Display) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// A table with this header: plain columns, no lines, fit for reading and for `awk`.
pub(crate) fn table<T: Into<comfy_table::Row>>(header: T) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// The text of a table without blanks at the ends of its lines.
pub(crate) fn trimmed(table: &Table) -> String {
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Text of a JSON value for a table: strings without quotes, nothing for null.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
