//! Which operation on which key with which bytes: a pure function of options and seed.

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution as _, Zipf};

use crate::options::{Distribution, Mix, Options, ValueSize};

/// Exponent of the Zipf distribution, the customary one of key-value benchmarks.
const ZIPF_EXPONENT: f64 = 0.99;

/// One kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// A get.
    Read,
    /// A put with the last context known of the key.
    Update,
    /// A get and a put with its context.
    ReadModifyWrite,
}

impl Operation {
    /// All kinds, in report order.
    pub const ALL: [Self; 3] = [Self::Read, Self::Update, Self::ReadModifyWrite];

    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Update => "update",
            Self::ReadModifyWrite => "rmw",
        }
    }
}

/// A stream of operations for one client.
#[derive(Debug)]
pub struct Workload {
    rng: SmallRng,
    mix: Mix,
    keys: u32,
    zipf: Option<Zipf<f64>>,
    size: ValueSize,
    filler: Bytes,
}

impl Workload {
    /// The stream of client number `client`.
    #[must_use]
    pub fn new(options: &Options, client: u64) -> Self {
        let mut rng =
            SmallRng::seed_from_u64(options.seed.wrapping_mul(0x9e37_79b9).wrapping_add(client));
        let zipf = match options.distribution {
            Distribution::Uniform => None,
            Distribution::Zipfian => Some(
                Zipf::new(f64::from(options.keys), ZIPF_EXPONENT)
                    .expect("at least one key and a positive exponent"),
            ),
        };
        // Twice the largest value, so that each value is another slice of it.
        let length = 2 * options.value_size.max as usize + 1;
        let filler = (0..length).map(|_| rng.random_range(b' '..=b'~')).collect();
        Self { rng, mix: options.mix, keys: options.keys, zipf, size: options.value_size, filler }
    }

    /// The next operation and the key it works on.
    pub fn next_operation(&mut self) -> (Operation, u32) {
        let draw = self.rng.random_range(0..self.mix.total());
        let operation = if draw < self.mix.read {
            Operation::Read
        } else if draw < self.mix.read + self.mix.update {
            Operation::Update
        } else {
            Operation::ReadModifyWrite
        };
        (operation, self.key())
    }

    /// The bytes of the next value.
    pub fn value(&mut self) -> Bytes {
        let length = self.rng.random_range(self.size.min..=self.size.max) as usize;
        let start = self.rng.random_range(0..=self.filler.len() - length);
        self.filler.slice(start..start + length)
    }

    fn key(&mut self) -> u32 {
        match &self.zipf {
            None => self.rng.random_range(0..self.keys),
            Some(zipf) => {
                // Ranks are scattered so that hot keys do not share a partition.
                let rank = zipf.sample(&mut self.rng) as u64;
                let scattered = rank.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
                u32::try_from(scattered % u64::from(self.keys)).unwrap_or(0)
            }
        }
    }
}
