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
