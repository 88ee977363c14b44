//! The CPU's SIMD vectors, through `pulp`: AVX-512, AVX2, NEON, wasm's simd128, or single values.
//!
//! Everything here is `#[inline(always)]`, and no vector passes through a closure that the standard library calls: code that is
//! not inlined is compiled without the CPU's vector instructions.

use pulp::{Simd, WithSimd};

/// A vector instruction set of this CPU.
#[derive(Clone, Copy, Debug)]
pub struct Processor(Vectors);

#[derive(Clone, Copy, Debug)]
enum Vectors {
    #[cfg(target_arch = "x86_64")]
    Avx512(pulp::x86::V4),
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    #[cfg(not(target_arch = "x86_64"))]
    Other(pulp::Arch),
    #[cfg(target_arch = "x86_64")]
    None,
}

impl Processor {
    /// The widest instruction set of this CPU.
    pub fn detect() -> Self {
        Self::all().swap_remove(0)
    }

    /// All instruction sets of this CPU, the widest first.
    #[cfg(target_arch = "x86_64")]
    pub fn all() -> Vec<Self> {
        let avx512 = pulp::x86::V4::try_new().map(Vectors::Avx512);
        let avx2 = pulp::x86::V3::try_new().map(Vectors::Avx2);
        avx512.into_iter().chain(avx2).chain([Vectors::None]).map(Self).collect()
    }

    /// All instruction sets of this CPU, the widest first.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn all() -> Vec<Self> {
        vec![Self(Vectors::Other(pulp::Arch::new()))]
    }

    /// Runs a kernel, compiled for these vectors.
    #[inline(always)]
    pub fn run<K: WithSimd>(self, kernel: K) -> K::Output {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx512(simd) => Simd::vectorize(simd, kernel),
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx2(simd) => Simd::vectorize(simd, kernel),
            #[cfg(not(target_arch = "x86_64"))]
            Vectors::Other(arch) => arch.dispatch(kernel),
            #[cfg(target_arch = "x86_64")]
            Vectors::None => Simd::vectorize(pulp::Scalar, kernel),
        }
    }
}

/// Whether there are registers for some twenty vectors of sums. In browsers there are the CPU's 16, whatever wasm allows.
#[inline(always)]
pub(crate) fn roomy<S: Simd>() -> bool {
    S::REGISTER_COUNT >= 32 && !cfg!(target_arch = "wasm32")
}

/// Most vectors that a product of channels and pixels computes at once.
pub(crate) const MOST_VECTORS: usize = if cfg!(target_arch = "wasm32") { 4 } else { 3 };

/// Vectors that a product of channels and pixels computes at once, `channels` of its output together. In browsers eight sums:
/// twelve are slower there, although there are registers for them.
#[inline(always)]
pub(crate) fn vectors_at_once<S: Simd>(channels: usize) -> usize {
    match () {
        () if cfg!(target_arch = "wasm32") => 8 / channels,
        () if roomy::<S>() => 3,
        () => 2,
    }
}

/// Output channels that a product of matrices computes at once, of `n_out`: their sums stay in registers.
pub(crate) fn channels_at_once(n_out: usize) -> usize {
    match n_out {
        _ if cfg!(target_arch = "wasm32") => 2,
        _ if n_out.is_multiple_of(6) => 6,
        1 | 2 => 2,
        _ => 4,
    }
}

/// `N` vectors from `at` on.
#[inline(always)]
pub fn vectors<S: Simd, const N: usize>(x: &[f32], at: usize) -> &[S::f32s; N] {
    let (vectors, _) = S::as_simd_f32s(&x[at..at + N * S::F32_LANES]);
    vectors.first_chunk().expect("the slice holds N vectors")
}

/// `N` vectors from `at` on, to be written.
#[inline(always)]
pub fn vectors_mut<S: Simd, const N: usize>(x: &mut [f32], at: usize) -> &mut [S::f32s; N] {
    let (vectors, _) = S::as_mut_simd_f32s(&mut x[at..at + N * S::F32_LANES]);
    vectors.first_chunk_mut().expect("the slice holds N vectors")
}

/// The vector from `at` on.
#[inline(always)]
pub fn load<S: Simd>(x: &[f32], at: usize) -> S::f32s {
    vectors::<S, 1>(x, at)[0]
}

/// max(x, 0).
#[inline(always)]
pub fn relu<S: Simd>(s: S, x: S::f32s) -> S::f32s {
    s.max_f32s(x, s.splat_f32s(0.0))
}

/// `value` where `input` > 0, else 0: the gradient of a ReLU.
#[inline(always)]
pub fn gate<S: Simd>(s: S, value: S::f32s, input: S::f32s) -> S::f32s {
    let zero = s.splat_f32s(0.0);
    s.select_f32s(s.less_than_f32s(zero, input), value, zero)
}

/// 1.5·2²³: added to a small number, it leaves the nearest integer in the low bits.
const ROUND: f32 = 12_582_912.0;

/// eˣ to about two units in the last place, for x of −87 to 88; clamped beyond. NaN stays NaN.
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::f32s) -> S::f32s {
    // Comparisons are false for NaN, which stays NaN; what a minimum makes of it depends on the processor.
    let (low, high) = (s.splat_f32s(-87.0), s.splat_f32s(88.0));
    let x = s.select_f32s(s.less_than_f32s(high, x), high, x);
    let x = s.select_f32s(s.less_than_f32s(x, low), low, x);
    let shifted = s.mul_add_e_f32s(x, s.splat_f32s(std::f32::consts::LOG2_E), s.splat_f32s(ROUND));
    let whole = s.sub_f32s(shifted, s.splat_f32s(ROUND));
    // ln 2 in two parts, the first with few bits, so that the subtraction is exact.
    let r = s.mul_add_e_f32s(whole, s.splat_f32s(-0.693_359_4), x);
    let r = s.mul_add_e_f32s(whole, s.splat_f32s(2.121_944_4e-4), r);
    let mut p = s.splat_f32s(1.987_569_1e-4);
    p = s.mul_add_e_f32s(p, r, s.splat_f32s(1.398_199_9e-3));
    p = s.mul_add_e_f32s(p, r, s.splat_f32s(8.333_452e-3));
    p = s.mul_add_e_f32s(p, r, s.splat_f32s(4.166_579_6e-2));
    p = s.mul_add_e_f32s(p, r, s.splat_f32s(1.666_666_5e-1));
    p = s.mul_add_e_f32s(p, r, s.splat_f32s(5e-1));
    p = s.mul_add_e_f32s(p, s.mul_f32s(r, r), s.add_f32s(r, s.splat_f32s(1.0)));
    let bits = s.add_u32s(s.transmute_u32s_f32s(shifted), s.splat_u32s(127));
    s.mul_f32s(p, s.transmute_f32s_u32s(s.wrapping_dyn_shl_u32s(bits, s.splat_u32s(23))))
}

/// ln x to about two units in the last place, for normal positive x.
#[inline(always)]
pub fn ln<S: Simd>(s: S, x: S::f32s) -> S::f32s {
    // x = 2ᵉ·m with m of √½ to √2.
    let bits = s.transmute_u32s_f32s(x);
    let offset = s.sub_u32s(bits, s.splat_u32s(0x3f35_04f3));
    let mantissa = s.add_u32s(s.and_u32s(offset, s.splat_u32s(0x007f_ffff)), s.splat_u32s(0x3f35_04f3));
    // The exponent plus 256, as an integer, then as a number through the low bits of 2²³.
    let biased = s.wrapping_dyn_shr_u32s(s.add_u32s(offset, s.splat_u32s(1 << 31)), s.splat_u32s(23));
    let e = s.transmute_f32s_u32s(s.add_u32s(biased, s.splat_u32s(0x4b00_0000)));
    let e = s.sub_f32s(e, s.splat_f32s(8_388_608.0 + 256.0));
    let f = s.sub_f32s(s.transmute_f32s_u32s(mantissa), s.splat_f32s(1.0));
    let mut p = s.splat_f32s(7.037_683_6e-2);
    for c in [
        -1.151_461e-1,
        1.167_699_9e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_7e-1,
        2.000_071_5e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ] {
        p = s.mul_add_e_f32s(p, f, s.splat_f32s(c));
    }
    let square = s.mul_f32s(f, f);
    let p = s.mul_f32s(s.mul_f32s(p, f), square);
    let p = s.mul_add_e_f32s(e, s.splat_f32s(-2.121_944_4e-4), p);
    let p = s.mul_add_e_f32s(square, s.splat_f32s(-0.5), p);
    s.mul_add_e_f32s(e, s.splat_f32s(0.693_359_4), s.add_f32s(f, p))
}
