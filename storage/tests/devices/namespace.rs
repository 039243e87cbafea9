//! Tests that need to mount something run again in a process of their own, which has a mount namespace of its
//! own: nothing is left behind however it ends. The system's `unshare` makes it, as root or, where the
//! kernel lets ordinary users do so, in a user namespace.

use std::{
    fs::OpenOptions,
    io::Write,
    process::{Command, Stdio},
};

/// Set in the process that may mount.
const INSIDE: &str = "DSKE_TEST_OWN_MOUNTS";
/// Status of a process that found out that it may not mount after all.
const MAY_NOT_MOUNT: i32 = 77;

/// Whether this is the process that may mount. Otherwise `test`, named in full, has run in such a one, or
/// could not, which is said loudly and is a failure on a machine that checks changes.
pub(crate) fn enter(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let root = rustix::process::geteuid().is_root();
    let how: &[&str] = if root { &["--mount"] } else { &["--user", "--map-root-user", "--mount"] };
    let probe = Command::new("unshare").args(how).arg("true").stdin(Stdio::null()).output();
    match probe {
        Err(error) => return not_run(test, &format!("no program `unshare`: {error}")),
        Ok(output) if !output.status.success() => {
            return not_run(test, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(_) => {}
    }
    let output = Command::new("unshare")
        .args(how)
        .arg(std::env::current_exe().expect("this test"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .expect("`unshare` was there a moment ago");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(MAY_NOT_MOUNT) {
        return not_run(test, text.trim().lines().last().unwrap_or_default());
    }
    assert!(output.status.success(), "{}: {text}", output.status);
    assert!(text.contains("1 passed"), "{test} is not the name of a test: {text}");
    println!("{text}");
    false
}

/// Ends the process that was to mount something and cannot.
pub(crate) fn cannot_mount(what: &str, error: &dyn std::fmt::Display) -> ! {
    eprintln!("cannot mount {what}: {error}");
    std::process::exit(MAY_NOT_MOUNT);
}

/// Whether FUSE is there.
pub(crate) fn need_fuse(test: &str) -> bool {
    match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        Ok(_) => true,
        Err(error) => not_run(test, &format!("/dev/fuse: {error}")),
    }
}

fn not_run(test: &str, why: &str) -> bool {
    assert!(std::env::var_os("CI").is_none(), "{test} could not run: {why}");
    // Past the harness, which hides what a test that passes has printed.
    let _ = writeln!(
        std::io::stderr(),
        "\n*** NOT RUN: {test}: {why}\n*** It needs the right to mount: run it as root, or where users may make namespaces.\n"
    );
    false
}
