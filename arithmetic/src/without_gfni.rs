//! A switch that leaves the GFNI kernel unused, so that the AVX2 kernel can be timed on processors that have both.
//!
//! Without the feature `without-gfni`, which nothing but `peers` turns on, `chosen` is the constant `false`.

#[cfg(feature = "without-gfni")]
static CHOSEN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// From now on no GFNI in this process.
#[cfg(feature = "without-gfni")]
pub fn choose() {
    CHOSEN.store(true, std::sync::atomic::Ordering::Relaxed);
}

#[cfg(feature = "without-gfni")]
pub(crate) fn chosen() -> bool {
    CHOSEN.load(std::sync::atomic::Ordering::Relaxed)
}

#[cfg(not(feature = "without-gfni"))]
pub(crate) const fn chosen() -> bool {
    false
}
