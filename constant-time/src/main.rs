//! Shows that the code that handles secrets takes the same path and the same addresses whatever they are.
//!
//! `.ci/constant-time` runs it under valgrind. Secrets are marked as undefined memory; memcheck then follows them
//! through every computation, and counts an error where a branch or an address depends on one. Three things are
//! checked of each piece of code: that it has no such error, that the mark has reached its result (so that
//! memcheck did follow), and, for code that is known to be wrong, that it is found.
//!
//! What is compared in the end is declared public: whether a tag holds shows in what happens next.

mod cases;
mod valgrind;

use std::process::ExitCode;

use cases::{Case, Expected};

fn main() -> ExitCode {
    if !valgrind::is_running() {
        eprintln!("this program tells nothing unless it runs under valgrind: use .ci/constant-time");
        return ExitCode::from(2);
    }
    let failures = cases::all().iter().filter(|case| !holds(case)).count();
    if failures == 0 {
        println!("no branch and no address depends on a secret, and whatever is wrong on purpose is found");
        return ExitCode::SUCCESS;
    }
    println!("{failures} of these are not as they must be");
    ExitCode::FAILURE
}

/// Runs one case and says whether it is as it must be.
fn holds(case: &Case) -> bool {
    let before = valgrind::errors();
    let result = (case.run)();
    let found = valgrind::errors() - before;
    let followed = is_marked(&result);
    let (holds, word) = match (case.expected, found, followed) {
        (Expected::Clean, 0, true) => (true, "clean"),
        (Expected::Clean, 0, false) => (false, "NOT FOLLOWED: the mark did not reach the result"),
        (Expected::Clean, _, _) => (false, "DEPENDS ON A SECRET"),
        (Expected::Found, 0, _) => (false, "NOT FOUND, though wrong on purpose"),
        (Expected::Found, _, _) => (true, "found, as it must be"),
    };
    println!("{word:>22}  {} ({found} errors)", case.name);
    holds
}

/// Whether a branch on these bytes is an error in memcheck's eyes.
fn is_marked(bytes: &[u8]) -> bool {
    let before = valgrind::errors();
    let odd = bytes.iter().filter(|byte| valgrind::branches_on(**byte)).count();
    std::hint::black_box(odd);
    valgrind::errors() > before
}
