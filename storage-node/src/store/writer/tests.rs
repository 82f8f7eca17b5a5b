//! Batches, and files that cannot be brought back.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prometheus::Registry;

use super::super::engine::{Commit, KeyRange, Look, Rows, TableId, Work};
use super::super::tests::Boundless;
use super::*;
use crate::limits::DAMAGES_MAX;
use crate::metrics::Metrics;

/// A file that opens and passes every check, and whose every commit meets a damaged page until it
/// was set aside.
#[derive(Debug, Default)]
struct DamagedPage {
    /// Times that it could not be set aside yet.
    stuck: Mutex<u32>,
    replaced: AtomicBool,
}

impl Engine for DamagedPage {
    fn get(&self, _: TableId, _: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(None)
    }

    fn page(&self, _: TableId, _: KeyRange, _: usize, _: usize) -> Result<Rows, EngineError> {
        Ok(Rows::new())
    }

    fn snapshot(&self, _: &mut Look<'_>) -> Result<(), EngineError> {
        Ok(())
    }

    fn transact(&self, _: Commit, _: &mut Work<'_>) -> Result<(), EngineError> {
        if self.replaced.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(EngineError::Damaged("page".to_owned()))
    }

    fn reopen(&self) -> Result<(), EngineError> {
        Ok(())
    }

    fn rows(&self, _: TableId) -> Result<u64, EngineError> {
        Ok(0)
    }

    fn close(&self) {}
}

impl Place for DamagedPage {
    fn set_aside(&self, _: &str) -> std::io::Result<()> {
        let mut stuck = self.stuck.lock().unwrap();
        if *stuck > 0 {
            *stuck -= 1;
            return Err(std::io::Error::other("stuck"));
        }
        self.replaced.store(true, Ordering::Release);
        Ok(())
    }

    fn settle(&self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Nothing to forget.
struct Nobody;

impl Successor for Nobody {
    fn forget(&mut self) {}
}

fn start(engine: Arc<DamagedPage>) -> (Writer, Metrics) {
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let space = Space::new(Box::new(Boundless), metrics.space.clone(), Mono(0));
    let writer = Writer::start(WriterParts {
        name: "test",
        engine: engine.clone(),
        home: Home { place: engine, space: Arc::new(space) },
        clock: Clock::system(),
        metrics: metrics.records_file.clone(),
        on_failure: Box::new(|| {}),
        companion: Box::new(Alone),
        successor: Box::new(Nobody),
    });
    (writer.unwrap(), metrics)
}

#[test]
fn many_jobs_are_expected_only_while_many_come() {
    let cases = [
        ("one client never waits", vec![1, 1, 1], vec![1, 1, 1]),
        ("a wave is expected again", vec![5, 3, 5, 6], vec![5, 3, 5, 6]),
        ("an end is noticed", vec![8, 1, 1, 1, 1, 1], vec![8, 6, 4, 3, 2, 1]),
    ];
    for (what, batches, wanted) in cases {
        let mut before = 0;
        let seen = batches.into_iter().map(|jobs| {
            before = commits::expected(before, jobs, true);
            before
        });
        assert_eq!(seen.collect::<Vec<_>>(), wanted, "{what}");
    }
    assert_eq!(commits::expected(9, 9, false), 0, "buffered writes do not wait");
}

#[test]
fn a_file_that_stays_damaged_is_replaced() {
    let (writer, metrics) = start(Arc::default());
    let deadline = Instant::now() + Duration::from_secs(30);
    while metrics.records_file.quarantines.get() == 0 || writer.state() != StoreState::Healthy {
        assert!(Instant::now() < deadline, "never replaced");
        writer.check();
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(metrics.records_file.failures.get(), u64::from(DAMAGES_MAX));
    assert_eq!(metrics.records_file.reopens.get(), u64::from(DAMAGES_MAX) - 1);
    assert!(writer.stop(), "what was acknowledged since is on disk");
}

#[test]
fn a_file_that_cannot_be_set_aside_stays_out_of_use() {
    let engine = Arc::new(DamagedPage { stuck: Mutex::new(u32::MAX), ..DamagedPage::default() });
    let (writer, metrics) = start(engine);
    let deadline = Instant::now() + Duration::from_secs(30);
    while writer.state() != StoreState::Quarantined {
        assert!(Instant::now() < deadline, "never given up");
        writer.check();
        std::thread::sleep(Duration::from_millis(5));
    }
    writer.check();
    assert_eq!(metrics.records_file.quarantines.get(), 1);
    assert!(!writer.stop(), "not everything is known to be on disk");
}
