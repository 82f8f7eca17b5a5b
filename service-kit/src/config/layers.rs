//! The layers of the settings and how one is laid over the other.
//!
//! A value from the environment or a flag is text; it becomes what the default at its key is. Each
//! is laid on and checked by itself, so that a refusal names the one key that is wrong.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::{Invalid, Validate};

/// Prefix of the environment variables that are settings.
const ENV_PREFIX: &str = "ATOLL_";

/// Variables with the prefix that are no settings: the file itself and the log filter, which apply
/// before there are settings, and those of the command line, which runs services too.
const ENV_ALLOWED: [&str; 6] = [
    "ATOLL_API_KEY",
    "ATOLL_CA_FILE",
    "ATOLL_CONFIG",
    "ATOLL_ENDPOINT",
    "ATOLL_LOG",
    "ATOLL_TIMEOUT_MS",
];

/// Settings that are refused: one line, naming the key and its source.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// The file is not TOML.
    #[error("configuration file {} line {line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line of the mistake, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A key is unknown, or its value does not fit.
    #[error("{key} (from {source_name}): {reason}")]
    Key {
        /// Dotted path.
        key: String,
        /// File, variable or flag.
        source_name: String,
        /// What is wrong.
        reason: String,
    },
    /// The settings as a whole make no sense.
    #[error("{0}")]
    Invalid(#[from] Invalid),
    /// The defaults are no TOML table: a mistake in the program.
    #[error("the defaults cannot be represented: {0}")]
    Defaults(String),
}

/// One setting from a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    key: String,
    value: String,
    source: String,
}

impl Override {
    /// `key` (a dotted path) set to `value` by the flag named like the key.
    #[must_use]
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        let key = key.into();
        let source = format!("flag --{}", key.replace(['_', '.'], "-"));
        Self { key, value: value.into(), source }
    }

    /// A `key=value` of `--set`.
    ///
    /// # Errors
    /// Where there is no `=`.
    pub fn parse_set(text: &str) -> Result<Self, Invalid> {
        let (key, value) =
            text.split_once('=').ok_or_else(|| Invalid::new("--set", "expected key=value"))?;
        Ok(Self { key: key.into(), value: value.into(), source: "flag --set".into() })
    }
}

/// Where settings come from, besides the defaults.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The TOML file.
    pub file: Option<PathBuf>,
    /// The environment of the process; what does not begin with `ATOLL_` is ignored.
    pub env: Vec<(String, String)>,
    /// Flags, the later one wins.
    pub flags: Vec<Override>,
}

/// The settings that result from defaults and `sources`.
///
/// # Errors
/// The first key that is unknown or wrong.
pub fn load<T>(sources: &Sources) -> Result<T, ConfigError>
where
    T: Serialize + DeserializeOwned + Default + Validate,
{
    let defaults =
        Table::try_from(T::default()).map_err(|e| ConfigError::Defaults(e.to_string()))?;
    let mut layers = Layers { table: defaults };
    if let Some(path) = &sources.file {
        layers.lay_file::<T>(path)?;
    }
    for (name, value) in &sources.env {
        if let Some(key) = setting_of_variable(name, value) {
            layers.lay_text::<T>(&key, value, &format!("environment variable {name}"))?;
        }
    }
    for flag in &sources.flags {
        layers.lay_text::<T>(&flag.key, &flag.value, &flag.source)?;
    }
    let settings: T = layers
        .table
        .try_into()
        .map_err(|e: toml::de::Error| ConfigError::Defaults(one_line(e.message())))?;
    settings.validate()?;
    Ok(settings)
}

/// The settings as a TOML document; secrets are redacted by their type.
///
/// # Errors
/// When they cannot be represented, a mistake in the program.
pub fn print_effective<T: Serialize>(settings: &T) -> Result<String, ConfigError> {
    toml::to_string_pretty(settings).map_err(|e| ConfigError::Defaults(e.to_string()))
}

/// The dotted path that an environment variable sets, `None` where it is not one of ours.
fn setting_of_variable(name: &str, value: &str) -> Option<String> {
    let rest = name.strip_prefix(ENV_PREFIX)?;
    if ENV_ALLOWED.contains(&name) || is_service_link(rest, value) {
        return None;
    }
    Some(rest.to_ascii_lowercase().replace("__", "."))
}

/// Kubernetes describes every Service of the namespace in the environment of every pod; a Service
/// called `atoll-…` must not look like a setting.
fn is_service_link(rest: &str, value: &str) -> bool {
    rest.ends_with("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || (rest.contains("PORT") && value.starts_with("tcp://"))
        || ["_TCP", "_TCP_PROTO", "_TCP_PORT", "_TCP_ADDR"]
            .iter()
            .any(|end| rest.contains("_PORT_") && rest.ends_with(end))
}

struct Layers {
    table: Table,
}

impl Layers {
    fn lay_file<T: DeserializeOwned>(&mut self, path: &PathBuf) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Read { path: path.clone(), error })?;
        let given: Table = toml::from_str(&text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(at).filter(|b| *b == b'\n').count() + 1;
            ConfigError::Syntax { path: path.clone(), line, message: one_line(error.message()) }
        })?;
        let source = format!("file {}", path.display());
        let mut whole = self.table.clone();
        merge(&mut whole, given.clone());
        let Err(error) = whole.clone().try_into::<T>() else {
            self.table = whole;
            return Ok(());
        };
        // Something in it is wrong: lay its leaves one by one to learn which.
        for (key, value) in leaves(&given) {
            let mut one = self.table.clone();
            let reason = match set(&mut one, &key, value) {
                Err(reason) => Some(reason),
                Ok(()) => one.try_into::<T>().err().map(|e| one_line(e.message())),
            };
            if let Some(reason) = reason {
                return Err(ConfigError::Key { key, source_name: source, reason });
            }
        }
        let reason = one_line(error.message());
        Err(ConfigError::Key { key: "settings".into(), source_name: source, reason })
    }

    fn lay_text<T: DeserializeOwned>(
        &mut self,
        key: &str,
        text: &str,
        source: &str,
    ) -> Result<(), ConfigError> {
        let fail = |reason: String| ConfigError::Key {
            key: key.to_owned(),
            source_name: source.to_owned(),
            reason,
        };
        let candidates = match get(&self.table, key) {
            Some(current) => vec![coerce(current, text).map_err(fail)?],
            None => guesses(text),
        };
        let mut first_reason = None;
        for value in candidates {
            let mut one = self.table.clone();
            set(&mut one, key, value).map_err(fail)?;
            match one.clone().try_into::<T>() {
                Ok(_) => {
                    self.table = one;
                    return Ok(());
                }
                Err(error) => {
                    first_reason.get_or_insert_with(|| one_line(error.message()));
                }
            }
        }
        Err(fail(first_reason.unwrap_or_else(|| "not a setting".to_owned())))
    }
}

/// `text` as the kind of value that `current` is.
fn coerce(current: &Value, text: &str) -> Result<Value, String> {
    let wrong = |kind: &str| format!("expected {kind}");
    match current {
        Value::String(_) | Value::Datetime(_) => Ok(Value::String(text.to_owned())),
        Value::Boolean(_) => text.parse().map(Value::Boolean).map_err(|_| wrong("true or false")),
        Value::Integer(_) => text.parse().map(Value::Integer).map_err(|_| wrong("an integer")),
        Value::Float(_) => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::Float(number)),
            _ => Err(wrong("a number")),
        },
        Value::Array(items) => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            let values: Result<Vec<Value>, String> = match items.first() {
                Some(sample) => parts.map(|part| coerce(sample, part)).collect(),
                None => Ok(parts.map(|part| Value::String(part.to_owned())).collect()),
            };
            values.map(Value::Array)
        }
        Value::Table(_) => Err(wrong("one of its keys, it is a table")),
    }
}

/// What `text` may be where there is no default to tell: the first that fits is taken.
fn guesses(text: &str) -> Vec<Value> {
    let mut values = vec![Value::String(text.to_owned())];
    values.extend(text.parse().ok().map(Value::Integer));
    values.extend(text.parse().ok().map(Value::Boolean));
    values.extend(text.parse().ok().filter(|n: &f64| n.is_finite()).map(Value::Float));
    let parts = text.split(',').map(|part| Value::String(part.trim().to_owned()));
    values.push(Value::Array(parts.collect()));
    values
}

fn get<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((head, rest)) => get(table.get(head)?.as_table()?, rest),
    }
}

fn set(table: &mut Table, key: &str, value: Value) -> Result<(), String> {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
            Ok(())
        }
        Some((head, rest)) => {
            let inner = table.entry(head).or_insert_with(|| Value::Table(Table::new()));
            let inner = inner.as_table_mut().ok_or_else(|| format!("{head} is not a table"))?;
            set(inner, rest, value)
        }
    }
}

fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(over)) => merge(inner, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Every value of a table that is not itself a table, with its dotted path.
fn leaves(table: &Table) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) if !inner.is_empty() => {
                let below = leaves(inner).into_iter();
                found.extend(below.map(|(path, value)| (format!("{key}.{path}"), value)));
            }
            other => found.push((key.clone(), other.clone())),
        }
    }
    found
}

/// serde's messages may have several lines; ours have one.
fn one_line(message: impl fmt::Display) -> String {
    message.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
