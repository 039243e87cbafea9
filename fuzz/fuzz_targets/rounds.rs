#![no_main]
//! See `dske_hostile::targets`.

use dske_hostile::alloc::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

libfuzzer_sys::fuzz_target!(|input: &[u8]| dske_hostile::targets::run("rounds", input));
