//! The processor's own instructions behind safe functions: prefetch, comparing
//! the tags of a table's group, rounds of AES. The only unsafe code of the crate.

#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m128i, _MM_HINT_T0, _mm_aesenc_si128, _mm_cmpeq_epi16, _mm_movemask_epi8, _mm_packs_epi16,
    _mm_prefetch, _mm_set1_epi16,
};
use std::mem::transmute;

// Without it `_mm_aesenc_si128` would be an undefined instruction on the
// processors that the build is for, and otherwise a call.
const _: () = assert!(cfg!(target_feature = "aes"), "build with -C target-feature=+aes");

/// Asks for the first cache line of a value. Has no effect but on time.
#[inline]
pub fn prefetch<T>(value: &T) {
    // SAFETY: a prefetch cannot fault and changes no state that Rust can see.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) }
}

/// Asks for the first cache line of `slice[index]`; does nothing beyond its end.
#[inline]
pub fn prefetch_slice<T>(slice: &[T], index: usize) {
    if let Some(value) = slice.get(index) {
        prefetch(value);
    }
}

/// Which of 16 values equal `wanted`: bit i stands for `values[i]`.
#[inline]
pub fn mask_eq_u16x16(values: &[u16; 16], wanted: u16) -> u16 {
    // SAFETY: the arrays are plain bytes of the same size, and every pattern of
    // bits is a value of both.
    let [low, high] = unsafe { transmute::<[u16; 16], [__m128i; 2]>(*values) };
    // SAFETY: SSE2 belongs to every x86-64.
    unsafe {
        let wanted = _mm_set1_epi16(wanted.cast_signed());
        // Equal lanes are 0xffff, which saturates to 0xff.
        let equal = _mm_packs_epi16(_mm_cmpeq_epi16(low, wanted), _mm_cmpeq_epi16(high, wanted));
        _mm_movemask_epi8(equal) as u16
    }
}

/// One round of AES encryption (FIPS 197, 5.1): ShiftRows, SubBytes and
/// MixColumns of `state`, then the addition of `key`. Byte 0 of the standard's
/// state is the lowest byte.
#[inline]
pub fn aes_round(state: u128, key: u128) -> u128 {
    // SAFETY: the processor has AES, as asserted above; the types are plain
    // bytes of the same size, and every pattern of bits is a value of both.
    unsafe {
        let state = transmute::<u128, __m128i>(state);
        let key = transmute::<u128, __m128i>(key);
        transmute::<__m128i, u128>(_mm_aesenc_si128(state, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Multiplication in the field of AES (FIPS 197, 4.2).
    fn multiply(mut a: u8, b: u8) -> u8 {
        let mut product = 0;
        for bit in 0..8 {
            if b >> bit & 1 == 1 {
                product ^= a;
            }
            a = (a << 1) ^ if a & 0x80 != 0 { 0x1b } else { 0 };
        }
        product
    }

    /// SubBytes by its definition (FIPS 197, 5.1.1): the inverse, then an affine map.
    fn substitute(byte: u8) -> u8 {
        let inverse = (0..=u8::MAX).find(|candidate| multiply(byte, *candidate) == 1).unwrap_or(0);
        (1..5).fold(inverse, |sum, turn| sum ^ inverse.rotate_left(turn)) ^ 0x63
    }

    fn slow_aes_round(state: u128, key: u128) -> u128 {
        let substituted = state.to_le_bytes().map(substitute);
        // ShiftRows: row r of column c comes from column c + r.
        let shifted: [u8; 16] = std::array::from_fn(|i| substituted[(i + 4 * (i % 4)) % 16]);
        let mixed: [u8; 16] = std::array::from_fn(|i| {
            let byte = |row: usize| shifted[i / 4 * 4 + (i + row) % 4];
            multiply(byte(0), 2) ^ multiply(byte(1), 3) ^ byte(2) ^ byte(3)
        });
        u128::from_le_bytes(mixed) ^ key
    }

    #[test]
    fn a_round_is_that_of_fips_197() {
        // Appendix B: the state at the start of round 1 and of round 2, and the
        // first round key.
        let start = 0x193d_e3be_a0f4_e22b_9ac6_8d2a_e9f8_4808_u128.swap_bytes();
        let round_key = 0xa0fa_fe17_8854_2cb1_23a3_3939_2a6c_7605_u128.swap_bytes();
        let next = 0xa49c_7ff2_689f_352b_6b5b_ea43_026a_5049_u128.swap_bytes();
        assert_eq!(aes_round(start, round_key), next);
        assert_eq!(slow_aes_round(start, round_key), next);
    }

    #[test]
    fn prefetching_is_harmless() {
        let values = [1u64, 2, 3];
        prefetch(&values);
        (0..5).for_each(|index| prefetch_slice(&values, index));
        prefetch_slice::<u64>(&[], 0);
        assert_eq!(values, [1, 2, 3]);
    }

    #[test]
    fn each_place_has_its_bit() {
        for i in 0..16 {
            let mut values = [0u16; 16];
            values[i] = 0x8001;
            assert_eq!(mask_eq_u16x16(&values, 0x8001), 1 << i);
            assert_eq!(mask_eq_u16x16(&values, 0), !(1 << i));
        }
    }

    proptest! {
        #[test]
        fn fast_rounds_are_slow_rounds(state in any::<u128>(), key in any::<u128>()) {
            prop_assert_eq!(aes_round(state, key), slow_aes_round(state, key));
        }

        #[test]
        fn fast_masks_are_slow_masks(
            // Few values, so that there are hits; and the edges of saturation.
            values in any::<[prop::sample::Index; 16]>(), wanted in any::<prop::sample::Index>()
        ) {
            let of = |index: &prop::sample::Index| *index.get(&[0u16, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff]);
            let (values, wanted) = (values.each_ref().map(of), of(&wanted));
            let slow = (0..16).filter(|i| values[*i] == wanted).fold(0u16, |mask, i| mask | 1 << i);
            prop_assert_eq!(mask_eq_u16x16(&values, wanted), slow);
        }
    }
}
