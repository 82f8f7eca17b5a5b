//! Which class the keys of a bucket belong to: the bucket's N, since N decides which owners have
//! them. Two nodes may compare their sums only if they sort the buckets alike, so a change of any
//! bucket's N begins the tree anew.

use std::collections::BTreeMap;

use dynamo_core::cluster_view::ClusterView;
use dynamo_core::codec::bytes::{DecodeError, Reader, Writer};
use dynamo_core::key::Bucket;
use dynamo_core::limits::{BUCKET_BYTES_MAX, BUCKETS_MAX, REPLICAS_DEFAULT, REPLICAS_MAX};

/// Class by bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Classes {
    default: u8,
    /// Invariant: only buckets whose class is not the default, so that equal sortings are equal.
    own: BTreeMap<Bucket, u8>,
}

impl Default for Classes {
    /// Before the cluster is known.
    fn default() -> Self {
        Self { default: REPLICAS_DEFAULT, own: BTreeMap::new() }
    }
}

impl Classes {
    /// The classes under `view`.
    pub(crate) fn of_view(view: &ClusterView) -> Self {
        let default = view.defaults().n;
        let own = view.buckets().map(|(bucket, props)| (bucket.clone(), props.n));
        Self { default, own: own.filter(|(_, n)| *n != default).collect() }
    }

    /// The class of a bucket.
    pub(crate) fn of(&self, bucket: &str) -> u8 {
        if self.own.is_empty() {
            return self.default;
        }
        self.own.get(bucket).copied().unwrap_or(self.default)
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.u8(self.default);
        out.len(self.own.len());
        for (bucket, class) in &self.own {
            out.bytes(bucket.as_str().as_bytes());
            out.u8(*class);
        }
    }

    pub(super) fn read(input: &mut Reader) -> Result<Self, DecodeError> {
        let class = |input: &mut Reader| {
            let class = input.u8()?;
            let valid = (1..=REPLICAS_MAX).contains(&class);
            if valid { Ok(class) } else { Err(DecodeError::Invalid("class")) }
        };
        let default = class(input)?;
        let mut own = BTreeMap::new();
        for _ in 0..input.count(BUCKETS_MAX, "bucket count")? {
            let name = input.text(BUCKET_BYTES_MAX, "bucket")?;
            let bucket = name.parse().map_err(|_| DecodeError::Invalid("bucket"))?;
            own.insert(bucket, class(input)?);
        }
        Ok(Self { default, own })
    }

    #[cfg(test)]
    pub(crate) fn for_test(default: u8, own: &[(&str, u8)]) -> Self {
        let own = own.iter().filter(|(_, class)| *class != default);
        let own = own.map(|(bucket, class)| (bucket.parse().unwrap(), *class));
        Self { default, own: own.collect() }
    }
}
