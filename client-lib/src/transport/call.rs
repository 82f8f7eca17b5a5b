//! One call: attempts at one address after the other until one answers, within a deadline, a
//! number of attempts and the retry budget.
//!
//! What is repeated, and why that is safe:
//! - a request that never arrived (no connection), always;
//! - a refusal that says `not_applied` with 503, or 429;
//! - a lost connection or a silent endpoint, where the request is a read or names its write: the
//!   store applies a named write once, whichever node gets it.
//!
//! Nothing else is. In particular a quorum that was missed half way is reported as it is.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use tokio::sync::Notify;

use crate::error::{Error, Outcome, Problem};
use crate::limits::{ANSWER_GRACE, ATTEMPTS_MAX, PATIENCE_DIVISOR, PATIENCE_MAX};
use crate::transport::backoff::Dice;
use crate::transport::budget::RetryBudget;
use crate::transport::endpoints::Endpoints;
use crate::transport::exchange::{Answer, ExchangeError, Http, Kind, Request};

/// Chooses where the next attempt goes.
pub(crate) trait Route: Sync {
    /// The base URL of the next attempt, `tried` being those of the earlier ones. `None` where
    /// there is nowhere (else) to go.
    fn next(&self, tried: &[Arc<str>]) -> Option<Arc<str>>;

    /// Told of refusals that mean "not here": the caller's ring may be stale.
    fn misdirected(&self) {}
}

/// What all calls of a client share.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) http: Http,
    pub(crate) dice: Dice,
    pub(crate) endpoints: Arc<Endpoints>,
    budget: Mutex<RetryBudget>,
    started: Instant,
    suspect: Arc<Notify>,
}

impl Caller {
    /// A caller over `endpoints`.
    pub(crate) fn new(http: Http, endpoints: Arc<Endpoints>) -> Self {
        Self {
            http,
            dice: Dice::seeded(),
            endpoints,
            budget: Mutex::default(),
            started: Instant::now(),
            suspect: Arc::new(Notify::new()),
        }
    }

    /// Notified whenever an endpoint becomes suspect.
    pub(crate) fn suspect(&self) -> Arc<Notify> {
        Arc::clone(&self.suspect)
    }

    /// Notes that `base` does not answer.
    pub(crate) fn failed(&self, base: &str) {
        if self.endpoints.failed(base, Instant::now()) {
            tracing::warn!(endpoint = %base, "endpoint does not answer; it is avoided until it does");
            self.suspect.notify_one();
        }
    }

    /// Sends `request` along `route` until it is answered. Refusals that are not repeated are
    /// answers too.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Timeout`], and [`Error::Refused`] where retries ran out.
    pub(crate) async fn call(
        &self,
        request: &Request,
        route: &impl Route,
        timeout: Duration,
    ) -> Result<Answer, Error> {
        self.note_call();
        let mut call = Call {
            caller: self,
            request,
            deadline: Instant::now() + timeout,
            tried: Vec::new(),
            flights: Flights(Vec::new()),
            maybe_applied: false,
            last: None,
        };
        call.run(route, timeout).await
    }

    /// Notes one call that is no retry.
    pub(crate) fn note_call(&self) {
        self.with_budget(RetryBudget::deposit);
    }

    /// Takes one retry from the budget, where there is one.
    pub(crate) fn may_retry(&self) -> bool {
        self.with_budget(RetryBudget::withdraw)
    }

    fn with_budget<T>(&self, act: impl FnOnce(&mut RetryBudget, u64) -> T) -> T {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut budget, self.started.elapsed().as_secs())
    }
}

type Exchange<'a> = Pin<Box<dyn Future<Output = Result<Answer, ExchangeError>> + Send + 'a>>;

/// Attempts that are still on their way.
struct Flights<'a>(Vec<(Arc<str>, Exchange<'a>)>);

impl Flights<'_> {
    /// The first of them to finish. Pends for ever where there is none.
    async fn next(&mut self) -> (Arc<str>, Result<Answer, ExchangeError>) {
        std::future::poll_fn(|cx| {
            let done = self.0.iter_mut().enumerate().find_map(|(index, (_, exchange))| {
                match exchange.as_mut().poll(cx) {
                    Poll::Ready(result) => Some((index, result)),
                    Poll::Pending => None,
                }
            });
            match done {
                Some((index, result)) => Poll::Ready((self.0.swap_remove(index).0, result)),
                None => Poll::Pending,
            }
        })
        .await
    }
}

/// What to do about a finished attempt.
enum Verdict {
    Answer(Answer),
    Again { after: Duration, failure: Error },
    Fail(Error),
}

struct Call<'a> {
    caller: &'a Caller,
    request: &'a Request,
    deadline: Instant,
    tried: Vec<Arc<str>>,
    flights: Flights<'a>,
    maybe_applied: bool,
    last: Option<Error>,
}

impl<'a> Call<'a> {
    async fn run(&mut self, route: &impl Route, timeout: Duration) -> Result<Answer, Error> {
        let patience = (timeout / PATIENCE_DIVISOR).min(PATIENCE_MAX);
        self.launch(route);
        if self.flights.0.is_empty() {
            return Err(self.nowhere());
        }
        let mut next_attempt = Instant::now() + patience;
        let mut impatient = true;
        loop {
            let give_up = self.deadline + ANSWER_GRACE;
            tokio::select! {
                biased;
                (base, result) = self.flights.next(), if !self.flights.0.is_empty() => {
                    match self.judge(&base, result, route) {
                        Verdict::Answer(answer) => return Ok(answer),
                        Verdict::Fail(error) => return Err(self.finish(error)),
                        Verdict::Again { after, failure } => {
                            self.last = Some(failure);
                            next_attempt = Instant::now() + after;
                            impatient = false;
                            if self.is_exhausted(next_attempt) && self.flights.0.is_empty() {
                                return Err(self.out_of_attempts());
                            }
                        }
                    }
                }
                () = sleep_until(next_attempt), if !self.is_exhausted(next_attempt) => {
                    if impatient {
                        for (base, _) in &self.flights.0 {
                            self.caller.failed(base);
                        }
                    }
                    let granted = self.may_repeat(impatient) && self.caller.may_retry();
                    if granted {
                        self.launch(route);
                    }
                    if self.flights.0.is_empty() {
                        return Err(self.out_of_attempts());
                    }
                    // Without a grant there is nothing left but to wait for the deadline.
                    next_attempt = if granted { Instant::now() + patience } else { give_up };
                    impatient = true;
                }
                () = sleep_until(give_up) => {
                    for (base, _) in &self.flights.0 {
                        self.caller.failed(base);
                    }
                    let outcome = self.outcome_of_silence();
                    return Err(Error::Timeout { timeout, outcome });
                }
            }
        }
    }

    /// Starts an attempt at the next address of the route, or at one tried before where there is
    /// no other: a second try at the only endpoint is better than none.
    fn launch(&mut self, route: &impl Route) {
        let next = route.next(&self.tried).or_else(|| {
            let in_flight = |base: &Arc<str>| self.flights.0.iter().any(|(b, _)| b == base);
            self.tried.iter().rev().find(|base| !in_flight(base)).cloned()
        });
        let Some(base) = next else { return };
        let remaining = self.deadline.saturating_duration_since(Instant::now());
        self.tried.push(Arc::clone(&base));
        let caller = self.caller;
        let request = self.request;
        let repeated = self.tried.len() > 1 && request.kind == Kind::NamedWrite;
        let to = Arc::clone(&base);
        let exchange = async move {
            let in_flight = caller.endpoints.send(&to);
            let result = caller.http.exchange(Arc::clone(&to), request, repeated, remaining).await;
            if result.is_ok() {
                in_flight.answered();
            }
            result
        };
        self.flights.0.push((base, Box::pin(exchange)));
    }

    fn judge(
        &mut self,
        base: &Arc<str>,
        result: Result<Answer, ExchangeError>,
        route: &impl Route,
    ) -> Verdict {
        let kind = self.request.kind;
        let pause = self.caller.dice.pause(self.tried.len().saturating_sub(1));
        let answer = match result {
            Ok(answer) => answer,
            Err(error) => {
                let failure = Error::unanswered(base, &error, kind);
                match error {
                    ExchangeError::Url(_) | ExchangeError::TooLarge => {
                        return Verdict::Fail(failure);
                    }
                    ExchangeError::Connect(_) => self.caller.failed(base),
                    ExchangeError::Broken(_) => {
                        self.caller.failed(base);
                        self.maybe_applied |= kind != Kind::Read;
                        if kind == Kind::Write {
                            return Verdict::Fail(failure);
                        }
                    }
                }
                return Verdict::Again { after: pause, failure };
            }
        };
        let after = match answer.status {
            StatusCode::MISDIRECTED_REQUEST => {
                route.misdirected();
                pause
            }
            StatusCode::TOO_MANY_REQUESTS => {
                Problem::of(&answer).retry_after.unwrap_or(pause).max(pause)
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                let problem = Problem::of(&answer);
                if kind != Kind::Read && problem.outcome == Outcome::Unknown {
                    return Verdict::Answer(answer);
                }
                pause
            }
            _ => return Verdict::Answer(answer),
        };
        Verdict::Again { after, failure: Error::refused(&answer, kind) }
    }

    /// Whether another attempt may be made while earlier ones are silent (`impatient`) or have
    /// failed.
    fn may_repeat(&self, impatient: bool) -> bool {
        !(impatient && self.request.kind == Kind::Write)
    }

    fn is_exhausted(&self, next_attempt: Instant) -> bool {
        self.tried.len() >= ATTEMPTS_MAX || next_attempt >= self.deadline
    }

    fn outcome_of_silence(&self) -> Outcome {
        let silent = !self.flights.0.is_empty() && self.request.kind != Kind::Read;
        if silent || self.maybe_applied { Outcome::Unknown } else { Outcome::NotApplied }
    }

    fn out_of_attempts(&mut self) -> Error {
        let error = self.last.take().unwrap_or_else(|| self.nowhere());
        self.finish(error)
    }

    fn nowhere(&self) -> Error {
        Error::Unreachable {
            endpoint: "none".to_owned(),
            reason: "there is no endpoint to send the request to".to_owned(),
            attempts: self.tried.len(),
            outcome: Outcome::NotApplied,
        }
    }

    fn finish(&self, error: Error) -> Error {
        let silent = !self.flights.0.is_empty() && self.request.kind != Kind::Read;
        error.or_unknown(self.maybe_applied || silent).after(self.tried.len())
    }
}

async fn sleep_until(at: Instant) {
    tokio::time::sleep_until(tokio::time::Instant::from_std(at)).await;
}
