//! `atoll dev stop`, `start` and the like: asked of the running `atoll dev`.

use comfy_table::Table;
use serde_json::json;

use crate::dev::args::{Action, HostArgs, StopArgs};
use crate::dev::control::{ProcessView, Request, ask};
use crate::exit;
use crate::output::{Done, Output, table};

pub(super) async fn run(action: Action, output: Output) -> Done {
    let is_list = matches!(action, Action::List(_));
    let (data, request) = match action {
        Action::Stop(StopArgs { host: HostArgs { host, data, service }, kill }) => {
            (data, Request::Stop { host, service, kill })
        }
        Action::Start(HostArgs { host, data, service }) => (data, Request::Start { host, service }),
        Action::Pause(HostArgs { host, data, service }) => (data, Request::Pause { host, service }),
        Action::Resume(HostArgs { host, data, service }) => {
            (data, Request::Resume { host, service })
        }
        Action::AddHost(data) => (data, Request::AddHost),
        Action::List(data) => (data, Request::List),
    };
    let (message, processes) = ask(&data.data, &request).await?;
    if output.is_json() {
        output.document(&json!({ "message": message, "processes": processes }))?;
    } else if is_list {
        output.table(&process_table(&processes))?;
    } else {
        output.line(message)?;
    }
    Ok(exit::OK)
}

/// Processes for people.
pub(super) fn process_table(processes: &[ProcessView]) -> Table {
    let mut rows = table(vec!["HOST", "PROCESS", "STATE", "PID", "LISTEN", "METRICS"]);
    for process in processes {
        rows.add_row(vec![
            process.host.to_string(),
            process.service.name().to_owned(),
            process.state.as_str().to_owned(),
            process.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            process.listen.clone(),
            process.metrics.clone(),
        ]);
    }
    rows
}
