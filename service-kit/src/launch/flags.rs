//! The flags that every service has. All of them are settings under another name, except
//! `--config` and `--print-config`.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::config::{Invalid, Override, Sources};

/// Flags shared by all services; flatten it into the service's own.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct CommonFlags {
    /// TOML file with settings
    #[arg(long, value_name = "FILE", env = "ATOLL_CONFIG")]
    pub config: Option<PathBuf>,
    /// Set any setting by its dotted name (repeatable, the last one wins)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Address of the API listener (port 0 takes a free one)
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<String>,
    /// Address of the metrics and health listener
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics_listen: Option<String>,
    /// File to which the bound addresses are written as JSON once the service listens
    #[arg(long, value_name = "FILE")]
    pub ports_file: Option<PathBuf>,
    /// Log level or filter (error, warn, info, debug, trace)
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<String>,
    /// Print the effective settings and exit
    #[arg(long)]
    pub print_config: bool,
}

impl CommonFlags {
    /// The sources of settings that these flags, `environment` and `extra` (the service's own
    /// flags) amount to. `--set` comes last.
    ///
    /// # Errors
    /// A `--set` without `=`, or a variable of ours that is not UTF-8.
    pub fn sources(
        &self,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        extra: Vec<Override>,
    ) -> Result<Sources, Invalid> {
        let mut env = Vec::new();
        for (name, value) in environment {
            let Ok(name) = name.into_string() else { continue };
            if !name.starts_with("ATOLL_") {
                continue;
            }
            let value = value.into_string().map_err(|_| Invalid::new(name.clone(), "not UTF-8"))?;
            env.push((name, value));
        }
        // The order of an environment is nobody's intention.
        env.sort();
        let named = [
            ("listen", self.listen.clone()),
            ("metrics_listen", self.metrics_listen.clone()),
            ("telemetry.level", self.log.clone()),
            ("runtime.ports_file", self.ports_file.as_ref().map(|p| p.display().to_string())),
        ];
        let mut flags: Vec<Override> = named
            .into_iter()
            .filter_map(|(key, value)| value.map(|value| Override::new(key, value)))
            .collect();
        flags.extend(extra);
        for text in &self.set {
            flags.push(Override::parse_set(text)?);
        }
        Ok(Sources { file: self.config.clone(), env, flags })
    }
}
