//! Reading, storing, counting.

use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use atoll_client::{Bucket, Client};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::args::Load;
use super::line::{Line, Lines, Next, key, put_id};
use crate::cmd::object::unreadable;
use crate::exit::{self, Exit};
use crate::output::{Done, Failure, Output, complain};

/// Failures that are told with their line; the others are counted.
const FAILURES_SHOWN_MAX: usize = 100;

/// Failures that people are shown: more of them seldom say more.
const FAILURES_PRINTED_MAX: usize = 10;

/// What the reader hands over.
enum Item {
    Line(Line),
    Blank,
    Bad(u64, String),
    Unreadable(String),
}

/// What became of one line.
struct Outcome {
    number: u64,
    result: Result<Stored, (String, Exit)>,
}

struct Stored {
    bytes: u64,
    concurrent: bool,
}

/// What became of all of them.
#[derive(Debug, Default)]
struct Counts {
    stored: u64,
    bytes: u64,
    blank: u64,
    concurrent: u64,
    failures: Vec<(u64, String)>,
    failed: u64,
    worst: Option<Exit>,
}

impl Counts {
    fn fail(&mut self, number: u64, message: String, exit: Exit) {
        self.failed += 1;
        self.worst.get_or_insert(exit);
        if self.failures.len() < FAILURES_SHOWN_MAX {
            self.failures.push((number, message));
        }
    }

    fn note(&mut self, outcome: Outcome) {
        match outcome.result {
            Ok(stored) => {
                self.stored += 1;
                self.bytes += stored.bytes;
                self.concurrent += u64::from(stored.concurrent);
            }
            Err((message, exit)) => self.fail(outcome.number, message, exit),
        }
    }
}

/// Runs `atoll load`.
pub(crate) async fn run(args: Load, client: &Client, output: Output) -> Done {
    let bucket = client.bucket(&args.bucket);
    let name: Result<dynamo_core::key::Bucket, _> = args.bucket.parse();
    name.map_err(|error| Failure::new(exit::USAGE, error.to_string()))?;
    let args = Arc::new(args);
    let length = std::fs::metadata(&args.file).ok().map(|meta| meta.len());
    let style = match length {
        Some(_) => "{bar:30} {bytes}/{total_bytes} {elapsed} {msg}",
        None => "{spinner} {bytes} {elapsed} {msg}",
    };
    let progress = output.progress(length, style);
    let (sender, mut items) = mpsc::channel(usize::from(args.concurrency) * 2);
    let reader = {
        let args = Arc::clone(&args);
        tokio::task::spawn_blocking(move || read(&args, &sender))
    };
    let mut counts = Counts::default();
    let mut puts: JoinSet<Outcome> = JoinSet::new();
    while let Some(item) = items.recv().await {
        match item {
            Item::Blank => counts.blank += 1,
            Item::Bad(number, message) => counts.fail(number, message, exit::FAILURE),
            Item::Unreadable(message) => {
                return Err(Failure::new(exit::FAILURE, message));
            }
            Item::Line(line) => {
                progress.inc(line.bytes.len() as u64 + 1);
                let (bucket, args) = (bucket.clone(), Arc::clone(&args));
                puts.spawn(async move { store(&bucket, &args, line).await });
            }
        }
        while puts.len() >= usize::from(args.concurrency) {
            take(&mut puts, &mut counts).await;
        }
        progress.set_message(format!("{} stored", counts.stored));
        if counts.failed > 0 && !args.keep_going {
            break;
        }
    }
    drop(items);
    while !puts.is_empty() {
        take(&mut puts, &mut counts).await;
    }
    let last_line = reader.await.unwrap_or(0);
    progress.finish_and_clear();
    report(&counts, last_line, &args, output)
}

async fn take(puts: &mut JoinSet<Outcome>, counts: &mut Counts) {
    match puts.join_next().await {
        Some(Ok(outcome)) => counts.note(outcome),
        // A put that panicked is a line that is not stored, and must be counted as one.
        Some(Err(error)) => {
            counts.fail(0, format!("a put ended abnormally: {error}"), exit::FAILURE)
        }
        None => {}
    }
}

/// Reads the file, on a thread of its own, and ends early where nobody takes the lines any more.
/// Returns the number of the last line that was handed over.
fn read(args: &Load, sender: &mpsc::Sender<Item>) -> u64 {
    let mut lines = match open(&args.file) {
        Ok(input) => Lines::new(input),
        Err(error) => {
            // The receiver ends with this item; where it is gone already, nothing is lost.
            drop(sender.blocking_send(Item::Unreadable(unreadable(&args.file, &error).message)));
            return 0;
        }
    };
    loop {
        let item = match lines.next_line() {
            Ok(Next::End) => return lines.number(),
            Ok(_) if lines.number() < args.start_line => continue,
            Ok(Next::Blank) => Item::Blank,
            Ok(Next::Line(line)) => Item::Line(line),
            Ok(Next::Bad(number, error)) => Item::Bad(number, error.to_string()),
            Err(error) => {
                let at = lines.number() + 1;
                Item::Unreadable(format!("{} line {at}: {error}", args.file.display()))
            }
        };
        if sender.blocking_send(item).is_err() {
            return lines.number();
        }
    }
}

fn open(path: &Path) -> std::io::Result<Box<dyn std::io::BufRead + Send>> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    Ok(Box::new(BufReader::with_capacity(1 << 16, std::fs::File::open(path)?)))
}

async fn store(bucket: &Bucket, args: &Load, line: Line) -> Outcome {
    let number = line.number;
    let result = match key(&line.bytes, &args.key) {
        Ok(key) => put(bucket, args, &key, &line).await.map_err(|error| {
            (format!("key {key:?}: {error} (outcome {})", error.outcome()), exit::of(&error))
        }),
        Err(error) => Err((error.to_string(), exit::FAILURE)),
    };
    Outcome { number, result }
}

async fn put(
    bucket: &Bucket,
    args: &Load,
    key: &str,
    line: &Line,
) -> Result<Stored, atoll_client::Error> {
    let context = if args.replace { bucket.get(key).await?.context } else { None };
    let mut put =
        bucket.put(key, line.bytes.clone()).content_type("application/json").context(context);
    // A line that replaces must be written whatever was written before; its id is its own.
    if !args.replace {
        put = put.idempotency_key(put_id(bucket.name(), key, &line.bytes));
    }
    if let Some(w) = args.w {
        put = put.w(w);
    }
    if let Some(durability) = args.durability {
        put = put.durability(durability);
    }
    let done = put.await?;
    let concurrent = done.siblings.is_some_and(|count| count > 1);
    Ok(Stored { bytes: line.bytes.len() as u64, concurrent })
}

fn report(counts: &Counts, last_line: u64, args: &Load, output: Output) -> Done {
    let mut failures = counts.failures.clone();
    failures.sort();
    if output.is_json() {
        let failures: Vec<_> = failures
            .iter()
            .map(|(line, message)| json!({ "line": line, "error": message }))
            .collect();
        output.document(&json!({
            "stored": counts.stored,
            "bytes": counts.bytes,
            "blank": counts.blank,
            "concurrent": counts.concurrent,
            "failed": counts.failed,
            "failures": failures,
            "last_line": last_line,
        }))?;
    } else {
        failures.truncate(FAILURES_PRINTED_MAX);
        for (number, message) in &failures {
            complain(format!("{}:{number}: {message}", args.file.display()));
        }
        let hidden = counts.failed.saturating_sub(failures.len() as u64);
        if hidden > 0 {
            complain(format!("and {hidden} more failures"));
        }
        let mut line = format!("stored {} objects, {} bytes", counts.stored, counts.bytes);
        for (count, what) in [
            (counts.failed, "failed"),
            (counts.blank, "blank lines"),
            (counts.concurrent, "now have concurrent versions"),
        ] {
            if count > 0 {
                line.push_str(&format!(", {count} {what}"));
            }
        }
        output.line(line)?;
    }
    match counts.worst {
        None => Ok(exit::OK),
        Some(exit) => {
            let first = counts.failures.iter().map(|(line, _)| *line).min().unwrap_or(0);
            let hint = if args.keep_going {
                String::new()
            } else {
                format!("; stopped: go on with --start-line {first}, or use --keep-going")
            };
            let message = format!("{} lines are not stored{hint}", counts.failed);
            Err(Failure::new(exit, message))
        }
    }
}
