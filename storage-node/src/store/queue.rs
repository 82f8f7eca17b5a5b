//! The bounded queue in front of a writer thread. Whoever takes gets everything that has gathered,
//! so one lock is taken per batch and not per item, and the writer is woken only when it sleeps.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Why an item was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// The queue is at one of its bounds.
    Full,
    /// Nobody will take items any more.
    Closed,
}

/// What a taker got.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken<T> {
    /// At least one item, oldest first.
    Items(Vec<T>),
    /// Nothing came within the time.
    Nothing,
    /// Nothing is left, and nothing will come.
    Closed,
}

/// A queue of items that each have a size.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    inner: Mutex<Inner<T>>,
    arrived: Condvar,
    items_max: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Inner<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    closed: bool,
    /// With how many items a sleeping taker is woken; 0 where none sleeps.
    wanted: usize,
}

/// For what a taker waits although there may be something to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gather {
    /// Until there are so many items,
    pub(crate) items: usize,
    /// or this time has passed.
    pub(crate) time: Duration,
}

impl<T> Queue<T> {
    /// An empty queue for at most `items_max` items of `bytes_max` bytes together.
    pub(crate) fn new(items_max: usize, bytes_max: usize) -> Self {
        let inner = Inner { items: VecDeque::new(), bytes: 0, closed: false, wanted: 0 };
        Self { inner: Mutex::new(inner), arrived: Condvar::new(), items_max, bytes_max }
    }

    /// Appends an item, or gives it back. An item larger than the bound is taken by an empty queue.
    pub(crate) fn push(&self, item: T, bytes: usize) -> Result<(), (T, Rejected)> {
        let mut inner = self.lock();
        if inner.closed {
            return Err((item, Rejected::Closed));
        }
        let too_large = inner.bytes.saturating_add(bytes) > self.bytes_max;
        if inner.items.len() >= self.items_max || (too_large && !inner.items.is_empty()) {
            return Err((item, Rejected::Full));
        }
        inner.bytes = inner.bytes.saturating_add(bytes);
        inner.items.push_back((item, bytes));
        let wake = inner.wanted > 0 && inner.items.len() >= inner.wanted;
        if wake {
            inner.wanted = 0;
        }
        drop(inner);
        if wake {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Takes what has gathered, at most `items_max` items of about `bytes_max` bytes; waits where
    /// there is nothing, no longer than `wait` (`None`: until something comes). With `gather` it
    /// first lets more come.
    pub(crate) fn take(
        &self,
        items_max: usize,
        bytes_max: usize,
        wait: Option<Duration>,
        gather: Option<Gather>,
    ) -> Taken<T> {
        let mut inner = self.lock();
        if let Some(gather) = gather {
            inner = self.sleep(inner, gather.items.min(items_max), Some(gather.time));
        }
        inner = self.sleep(inner, 1, wait);
        if inner.items.is_empty() {
            return if inner.closed { Taken::Closed } else { Taken::Nothing };
        }
        let mut taken = Vec::with_capacity(inner.items.len().min(items_max));
        let mut size = 0usize;
        while let Some((_, bytes)) = inner.items.front() {
            size = size.saturating_add(*bytes);
            if taken.len() >= items_max || (!taken.is_empty() && size > bytes_max) {
                break;
            }
            if let Some((item, bytes)) = inner.items.pop_front() {
                inner.bytes = inner.bytes.saturating_sub(bytes);
                taken.push(item);
            }
        }
        Taken::Items(taken)
    }

    /// Number of items waiting.
    pub(crate) fn len(&self) -> usize {
        self.lock().items.len()
    }

    /// Refuses further items. What is queued is still taken.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Sleeps until there are `wanted` items, the queue is closed, or `wait` has passed.
    fn sleep<'a>(
        &'a self,
        mut inner: MutexGuard<'a, Inner<T>>,
        wanted: usize,
        wait: Option<Duration>,
    ) -> MutexGuard<'a, Inner<T>> {
        inner.wanted = wanted;
        // Whoever wakes the sleeper takes the wish back.
        let short =
            |inner: &mut Inner<T>| inner.items.len() < wanted && inner.wanted > 0 && !inner.closed;
        let mut inner = match wait {
            None => self.arrived.wait_while(inner, short).unwrap_or_else(PoisonError::into_inner),
            Some(wait) => {
                self.arrived
                    .wait_timeout_while(inner, wait, short)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        };
        inner.wanted = 0;
        inner
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        // No user code runs under the lock, so a poisoned one still guards whole values.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_and_order_is_kept() {
        let queue = Queue::new(3, 100);
        for (item, bytes) in [(1, 40), (2, 40)] {
            assert_eq!(queue.push(item, bytes), Ok(()));
        }
        assert_eq!(queue.push(3, 40), Err((3, Rejected::Full)), "bytes");
        assert_eq!(queue.push(3, 1), Ok(()));
        assert_eq!(queue.push(4, 1), Err((4, Rejected::Full)), "items");
        assert_eq!(queue.take(10, 50, None, None), Taken::Items(vec![1]));
        assert_eq!(queue.take(1, 500, None, None), Taken::Items(vec![2]));
        assert_eq!(queue.len(), 1);
        assert_eq!(queue.take(10, 0, None, None), Taken::Items(vec![3]), "one item always fits");
        assert_eq!(queue.take(10, 10, Some(Duration::ZERO), None), Taken::Nothing);
        assert_eq!(queue.push(5, 1000), Ok(()), "an empty queue takes any item");
        queue.close();
        assert_eq!(queue.push(6, 1), Err((6, Rejected::Closed)));
        assert_eq!(queue.take(10, 10, None, None), Taken::Items(vec![5]));
        assert_eq!(queue.take(10, 10, None, None), Taken::Closed);
    }

    #[test]
    fn a_sleeping_taker_is_woken_by_items_and_by_the_end() {
        let queue = std::sync::Arc::new(Queue::new(10_000, usize::MAX));
        let taker = std::thread::spawn({
            let queue = std::sync::Arc::clone(&queue);
            move || {
                let mut all = Vec::new();
                loop {
                    match queue.take(7, usize::MAX, None, None) {
                        Taken::Items(items) => all.extend(items),
                        Taken::Nothing => unreachable!("without a time limit something comes"),
                        Taken::Closed => return all,
                    }
                }
            }
        });
        for item in 0..1000 {
            queue.push(item, 1).unwrap();
        }
        queue.close();
        assert_eq!(taker.join().unwrap(), (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn a_taker_that_gathers_takes_many_what_came_in_time_or_the_rest() {
        let long = Gather { items: 3, time: Duration::from_secs(3600) };
        let queue = std::sync::Arc::new(Queue::new(10, 100));
        queue.push(0, 1).unwrap();
        let short = Gather { items: 3, time: Duration::from_millis(1) };
        assert_eq!(queue.take(10, 100, None, Some(short)), Taken::Items(vec![0]), "time");
        let taker = std::thread::spawn({
            let queue = std::sync::Arc::clone(&queue);
            move || [(); 3].map(|()| queue.take(10, 100, None, Some(long)))
        });
        for item in 1..=4 {
            queue.push(item, 1).unwrap();
        }
        // The fourth comes with the first three or, with the end, alone.
        queue.close();
        let taken = taker.join().unwrap();
        let Taken::Items(first) = &taken[0] else { panic!("{taken:?}") };
        assert!(first.len() >= 3, "{taken:?}");
        let all = taken.iter().flat_map(|taken| match taken {
            Taken::Items(items) => items.clone(),
            Taken::Nothing | Taken::Closed => Vec::new(),
        });
        assert_eq!(all.collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(taken[2], Taken::Closed);
    }

    #[test]
    fn no_more_is_gathered_than_is_taken() {
        let queue = Queue::new(10, 100);
        queue.push(1, 1).unwrap();
        let long = Gather { items: 3, time: Duration::from_secs(3600) };
        assert_eq!(queue.take(1, 100, None, Some(long)), Taken::Items(vec![1]));
    }
}
