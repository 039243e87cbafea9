//! `dske testnet logs`: prints a log, and goes on as it grows where asked to.

use std::{
    fs::File,
    io::{self, Read},
    time::Duration,
};

use crate::{
    cli::{
        context::Context,
        error::{CliError, Result},
        interrupt::{self, Interrupt},
    },
    testnet::NodeEntry,
};

/// Between two looks at a growing log.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Prints a node's log.
pub(crate) fn run(node: &NodeEntry, follow: bool, context: &Context) -> Result<()> {
    let fail = |error| CliError::file("read log", &node.log, error);
    let mut log = File::open(&node.log).map_err(fail)?;
    copy(&mut log, context)?;
    if !follow {
        return Ok(());
    }
    let runtime = interrupt::runtime()?;
    let interrupt = Interrupt::listen(&runtime)?;
    while interrupt.check().is_ok() {
        copy(&mut log, context)?;
        std::thread::sleep(LOOK_PAUSE);
    }
    Ok(())
}

/// Copies what is there now. The log is text of our own nodes, but it is shown as any other: escaped.
fn copy(log: &mut File, context: &Context) -> Result<()> {
    let mut bytes = Vec::new();
    log.read_to_end(&mut bytes).map_err(io::Error::other)?;
    let text = String::from_utf8_lossy(&bytes);
    let safe: String =
        text.chars()
            .map(|c| {
                if c.is_control() && c != '\n' && c != '\t' {
                    c.escape_default().to_string()
                } else {
                    c.into()
                }
            })
            .collect();
    context.out.text(&safe)
}
