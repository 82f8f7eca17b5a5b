//! Free blocks of ports on loopback.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Ports that one host uses, relative to its first.
const OFFSETS: [u16; 8] = [0, 1, 10, 11, 20, 21, 30, 31];

/// Distance between the first ports of two hosts.
const HOST_STRIDE: u16 = 100;

/// First ports to try lie between here and [`LAST`], outside the ephemeral range.
const FIRST: u16 = 10_000;
const LAST: u16 = 30_000;

/// The first port of a block in which every port of `hosts` hosts is free at this moment.
///
/// # Panics
/// Where no such block exists.
pub(super) fn free_block(hosts: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let block = HOST_STRIDE * (hosts + 2);
    let blocks = (LAST - FIRST) / block;
    let start = u16::try_from(std::process::id() % u32::from(blocks)).unwrap_or(0);
    for _ in 0..blocks {
        let index = (start + NEXT.fetch_add(1, Ordering::Relaxed)) % blocks;
        let base = FIRST + index * block;
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        let all = (0..hosts + 1)
            .flat_map(|host| OFFSETS.map(|offset| base + host * HOST_STRIDE + offset))
            .all(free);
        if all {
            return base;
        }
    }
    panic!("no free block of ports for {hosts} hosts");
}
