//! One bit changed anywhere, and the message is refused: for every sender that signs.

use super::scheme::{Content, NOW, judged};
use super::senders::all;
use proptest::prelude::*;

/// Messages tried of each sender; the bits are drawn anew for each.
const CASES: u32 = 24;

fn flip(bytes: &mut [u8], bit: usize) {
    let at = bit / 8 % bytes.len();
    bytes[at] ^= 1 << (bit % 8);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_message_with_one_bit_changed_is_refused(
        key in any::<[u8; 32]>(),
        content in proptest::collection::vec(any::<u8>(), 1..300),
        bits in any::<[u16; 4]>(),
    ) {
        for scheme in all() {
            let name = scheme.name;
            let secret = scheme.secret(&key);
            let good = scheme.sign(&key, &content, NOW);
            let judge = |message: &super::scheme::Message, secret: &[u8]| {
                // What HTTP cannot carry is refused before.
                message.arrive().is_some_and(|request| judged(&scheme, secret, &request, NOW).is_ok())
            };
            prop_assert!(judge(&good, &secret), "{name}: a good message is refused");
            let bits = bits.map(usize::from);

            let mut signature = good.clone();
            flip(&mut signature.signature, bits[0]);
            prop_assert!(!judge(&signature, &secret), "{name}: signature, bit {}", bits[0]);

            let mut body = good.clone();
            flip(&mut body.body, bits[1]);
            prop_assert!(!judge(&body, &secret), "{name}: body, bit {}", bits[1]);

            if let Content::Timed(_) = scheme.content {
                let mut timestamp = good.clone();
                flip(&mut timestamp.timestamp, bits[2]);
                prop_assert!(!judge(&timestamp, &secret), "{name}: timestamp, bit {}", bits[2]);
                // A change that leaves it fresh, too.
                let mut timestamp = good.clone();
                timestamp.timestamp = (NOW - 1).to_string().into_bytes();
                prop_assert!(!judge(&timestamp, &secret), "{name}: another timestamp");
            }

            let other = scheme.other_secret(&key, bits[3]);
            prop_assert!(!judge(&good, &other), "{name}: key, bit {}", bits[3]);
        }
    }
}
