//! Client requests to valgrind's memcheck. Outside of valgrind they do nothing.

#![allow(unsafe_code, reason = "a client request is a sequence of instructions that valgrind recognises")]

/// Numbers of requests, from valgrind.h and memcheck.h.
mod request {
    pub(super) const RUNNING_ON_VALGRIND: usize = 0x1001;
    pub(super) const COUNT_ERRORS: usize = 0x1201;
    pub(super) const MAKE_MEM_UNDEFINED: usize = 0x4d43_0001;
    pub(super) const MAKE_MEM_DEFINED: usize = 0x4d43_0002;
}

/// Whether the program runs under valgrind.
pub(crate) fn is_running() -> bool {
    call([request::RUNNING_ON_VALGRIND, 0, 0, 0, 0, 0]) != 0
}

/// Errors found so far.
pub(crate) fn errors() -> usize {
    call([request::COUNT_ERRORS, 0, 0, 0, 0, 0])
}

/// Marks bytes as secret: from here on no branch and no address may depend on them.
pub(crate) fn secret(bytes: &mut [u8]) {
    call([request::MAKE_MEM_UNDEFINED, bytes.as_ptr().addr(), bytes.len(), 0, 0, 0]);
}

/// A result that is public, such as whether a tag holds.
pub(crate) fn public(mut value: bool) -> bool {
    let value: *mut bool = &raw mut value;
    call([request::MAKE_MEM_DEFINED, value.addr(), 1, 0, 0, 0]);
    // SAFETY: it points to a local value that was written.
    unsafe { value.read_volatile() }
}

/// Branches on a byte, in a way that no compiler turns into arithmetic.
#[inline(never)]
pub(crate) fn branches_on(byte: u8) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let odd: u8;
        // SAFETY: it reads one register and writes another.
        unsafe {
            std::arch::asm!(
                "mov {odd}, 0",
                "test {byte}, 1",
                "jz 2f",
                "mov {odd}, 1",
                "2:",
                byte = in(reg_byte) byte,
                odd = out(reg_byte) odd,
                options(nomem, nostack)
            );
        }
        odd == 1
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        byte & 1 == 1
    }
}

#[cfg(target_arch = "x86_64")]
fn call(request: [usize; 6]) -> usize {
    let mut result = 0;
    // SAFETY: four rotations by 128 bits in all and an exchange of a register with itself change nothing; valgrind
    // reads the request and writes the result.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") request.as_ptr(),
            inout("rdx") result,
            options(nostack)
        );
    }
    result
}

/// On other machines the program says that it does not run under valgrind.
#[cfg(not(target_arch = "x86_64"))]
fn call(_: [usize; 6]) -> usize {
    0
}
