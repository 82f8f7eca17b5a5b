//! Repeating bulk calls: each of them is refused now and then, because background work has to wait
//! for its share, and each of them may be repeated.

use std::time::Duration;

use atoll_client::Error;

/// Attempts of one call. With the pauses between them: about a minute.
const ATTEMPTS_MAX: u32 = 10;

/// Pause after the first attempt; doubled after each further one.
const PAUSE_MIN: Duration = Duration::from_millis(250);

/// Longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Calls until it succeeds, fails for good, or all attempts are made.
///
/// # Errors
/// The last failure.
pub(crate) async fn patiently<T, F>(mut call: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut pause = PAUSE_MIN;
    for _ in 1..ATTEMPTS_MAX {
        let error = match call().await {
            Ok(value) => return Ok(value),
            Err(error) if error.retryable() => error,
            Err(error) => return Err(error),
        };
        let asked = error.problem().and_then(|problem| problem.retry_after).unwrap_or_default();
        tokio::time::sleep(pause.max(asked).min(PAUSE_MAX)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
    call().await
}
