//! A loopback address for each process, so that a restarted one finds its port free: outgoing connections never use it.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU8, Ordering};

/// Addresses that one test process may take: what is left of 127/8 beside 16 bits of its process id.
const MOST: u8 = 64;

/// The next unused address of 127/8; two test processes at once do not meet.
pub fn fresh() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let at = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(
        at < MOST,
        "more than {MOST} addresses in one test process; make the address larger"
    );
    let pid = std::process::id();
    let byte = |shift: u32| u8::try_from(pid >> shift & 0xff).expect("masked to a byte");
    // 127.64.0.0/10 holds pid bits 10..16, 2..10 and 0..2, then the counter.
    Ipv4Addr::new(127, 64 + (byte(10) & 63), byte(2), (byte(0) & 3) << 6 | at)
}
