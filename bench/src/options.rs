//! What to measure, as command-line options.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

/// Options of a benchmark run.
#[derive(Debug, Clone, Args, Serialize)]
pub struct Options {
    /// Router addresses as host:port; clients are spread over them.
    #[arg(long = "target", value_name = "HOST:PORT", value_delimiter = ',', required = true)]
    pub targets: Vec<String>,
    /// Bucket to work in.
    #[arg(long, default_value = "bench")]
    pub bucket: String,
    /// Shares of the operations, e.g. `read=95,update=5` or `rmw=1`.
    #[arg(long, default_value = "read=50,update=50")]
    pub mix: Mix,
    /// Concurrent connections.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub clients: u16,
    /// Operations per second of the open loop; without it the loop is closed.
    #[arg(long)]
    pub rate: Option<u32>,
    /// Seconds to measure.
    #[arg(long, default_value = "10", value_parser = seconds)]
    pub duration: Duration,
    /// Seconds to run before measuring.
    #[arg(long, default_value = "2", value_parser = seconds)]
    pub warmup: Duration,
    /// Number of keys.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub keys: u32,
    /// How keys are chosen.
    #[arg(long, value_enum, default_value_t = Distribution::Uniform)]
    pub distribution: Distribution,
    /// Bytes of a value: a number, or a range as `100-4096`.
    #[arg(long, default_value = "1024")]
    pub value_size: ValueSize,
    /// API key to present; never part of a report.
    #[arg(skip)]
    #[serde(skip)]
    pub api_key: Option<String>,
    /// PEM file with the CA of the targets; with it they are spoken to over TLS.
    #[arg(skip)]
    #[serde(skip)]
    pub ca: Option<PathBuf>,
    /// Query string for reads, e.g. `r=1`.
    #[arg(long, default_value = "")]
    pub read_query: String,
    /// Query string for writes, e.g. `w=2&durability=buffered`.
    #[arg(long, default_value = "")]
    pub write_query: String,
    /// Do not write every key once before the run.
    #[arg(long)]
    pub no_preload: bool,
    /// Process ids of the servers, for CPU per operation and memory.
    #[arg(long, value_delimiter = ',')]
    pub pids: Vec<u32>,
    /// Seed of keys, operations and values.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// How keys are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// Every key alike.
    Uniform,
    /// A few keys are hot: Zipf with exponent 0.99, scattered over the key space.
    Zipfian,
}

/// Shares of the operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Mix {
    /// Gets.
    pub read: u32,
    /// Puts with the last context known of the key.
    pub update: u32,
    /// A get, then a put with its context; one operation.
    pub rmw: u32,
}

impl Mix {
    /// Sum of the shares; at least 1.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.read + self.update + self.rmw
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut mix = Self { read: 0, update: 0, rmw: 0 };
        for part in text.split(',') {
            let (name, share) = part.split_once('=').ok_or("expected NAME=SHARE")?;
            let share: u32 = share.parse().map_err(|_| format!("{share} is no share"))?;
            if share > 1_000_000 {
                return Err("a share is at most 1000000".to_owned());
            }
            match name {
                "read" => mix.read = share,
                "update" => mix.update = share,
                "rmw" => mix.rmw = share,
                _ => return Err(format!("{name} is none of read, update, rmw")),
            }
        }
        if mix.total() == 0 { Err("at least one share above 0".to_owned()) } else { Ok(mix) }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "read={},update={},rmw={}", self.read, self.update, self.rmw)
    }
}

/// Bytes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ValueSize {
    /// The least.
    pub min: u32,
    /// The most.
    pub max: u32,
}

impl FromStr for ValueSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (min, max) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| text.parse().map_err(|_| format!("{text} is no size"));
        let size = Self { min: number(min)?, max: number(max)? };
        if size.min > size.max || size.max > 1024 * 1024 {
            return Err("sizes are 0 to 1048576, the smaller first".to_owned());
        }
        Ok(size)
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text} is no number of seconds"))?;
    if (0.0..=86_400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("0 to 86400 seconds".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixes_and_sizes_parse_or_say_why() {
        assert_eq!("read=95,update=5".parse(), Ok(Mix { read: 95, update: 5, rmw: 0 }));
        for bad in ["", "read", "read=x", "scan=1", "read=0", "read=9999999"] {
            assert!(bad.parse::<Mix>().is_err(), "{bad}");
        }
        assert_eq!("1024".parse(), Ok(ValueSize { min: 1024, max: 1024 }));
        assert_eq!("1-20".parse(), Ok(ValueSize { min: 1, max: 20 }));
        for bad in ["", "x", "20-1", "9999999", "-1"] {
            assert!(bad.parse::<ValueSize>().is_err(), "{bad}");
        }
    }
}
