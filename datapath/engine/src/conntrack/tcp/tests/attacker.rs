//! Whoever can forge segments but sees none of the answers.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
struct Forged {
    bits: u8,
    seq: u32,
    ack: u32,
    payload: u32,
}

fn forged() -> impl Strategy<Value = Forged> {
    // Numbers anywhere, and some in the neighbourhood of the real ones.
    let number =
        || prop_oneof![any::<u32>(), 0u32..2000, (0u32..1 << 25).prop_map(|n| n.wrapping_sub(1 << 24))];
    (any::<u8>(), number(), number(), 0u32..1500).prop_map(|(bits, seq, ack, payload)| Forged {
        bits,
        seq,
        ack,
        payload,
    })
}

proptest! {
    /// Whoever forges the server's segments without seeing the client's can
    /// neither end a connection nor shorten its life: the client's next segment
    /// gives all of it back, and its own end is still understood.
    #[test]
    fn a_blind_attacker_achieves_nothing(attack in proptest::collection::vec(forged(), 1..40)) {
        let mut wire = Wire::established();
        for f in attack {
            // The one number in 2^32 that is right, and the FIN that ends there.
            let lucky = f.seq == 501 || f.seq.wrapping_add(f.payload + 1) == 501;
            if lucky {
                continue;
            }
            wire.now.0 += 1;
            let packet = segment(TcpFlags(f.bits), f.seq, f.ack, f.payload);
            let _ = wire.entry.advance(SERVER, &packet, wire.now, &T);
            prop_assert_eq!(wire.state(), Established);
            prop_assert!(wire.left() >= T.closing);
            wire.say(CLIENT, ACK, 101, 501);
            prop_assert_eq!((wire.state(), wire.left()), (Established, T.tcp_established));
        }
        wire.say(CLIENT, FIN, 101, 501);
        wire.say(SERVER, ACK, 501, 102);
        prop_assert_eq!(wire.state(), FinWait);
    }

    /// Forged handshakes stay half-open: the server answers, but whoever forged
    /// the client does not see its number.
    #[test]
    fn a_blind_handshake_stays_half_open(
        isn in any::<u32>(),
        attack in proptest::collection::vec(forged(), 1..40),
    ) {
        let mut wire = Wire::open(SYN, 100, 0);
        wire.say(SERVER, SYN_ACK, isn, 101);
        for f in attack {
            if f.ack.wrapping_sub(isn.wrapping_add(1)).cast_signed().unsigned_abs() <= 1 << 16 {
                continue;
            }
            let _ = wire.try_say(CLIENT, TcpFlags(f.bits), f.seq, f.ack);
            prop_assert!(wire.state().is_expendable(), "{:?}", wire.state());
        }
    }
}
