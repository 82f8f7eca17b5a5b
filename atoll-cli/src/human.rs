//! Numbers as people read them.

/// A time of `ms` milliseconds, in its two largest units.
pub(crate) fn time(ms: u64) -> String {
    let s = ms.div_ceil(1000);
    match (s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, ..) => format!("{d} d {h} h"),
    }
}

/// A number of bytes, in the largest unit of which it is at least one.
pub(crate) fn bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_two_units() {
        let rows = [
            (0, "0 s"),
            (1, "1 s"),
            (59_000, "59 s"),
            (61_000, "1 min 1 s"),
            (3_600_000, "1 h 0 min"),
            (90_000_000, "1 d 1 h"),
        ];
        for (ms, expected) in rows {
            assert_eq!(time(ms), expected);
        }
    }
}
