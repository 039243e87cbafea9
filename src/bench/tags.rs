//! `dske bench tags`: how fast messages are tagged and checked, and keys validated.

use std::{hint::black_box, time::Duration};

use clap::Args;
use dske_protocol::{pad::TagKey, params::MESSAGE_BYTES_MAX, tag::key_tag};

use super::arithmetic::{Measured, Row, filler, time};
use crate::cli::{
    context::Context,
    error::{CliError, Result},
    interrupt,
    progress::Progress,
    units,
};

/// What the figures are, said with them.
const MEASURED: &str = "on buffers in memory, per byte of message or key, a fresh tag key each time. tag: the one-time tag \
    of a message. check: the same, and comparing it in constant time. key tag: over the key and a context of 512 bytes, \
    as long as that of an agreement with 13 hubs";

/// Bytes of context under a key tag.
const CONTEXT_BYTES: usize = 512;

/// Arguments of `dske bench tags`.
#[derive(Debug, Args)]
pub(crate) struct TagsArgs {
    /// Lengths of a message or key, with commas
    #[arg(long, value_delimiter = ',', default_values = ["64", "1KiB", "16KiB", "1MiB"], value_parser = units::parse_size)]
    bytes: Vec<u64>,
    /// How long each operation is repeated
    #[arg(long, default_value = "300ms", value_parser = units::parse_duration)]
    time: Duration,
}

/// Runs `dske bench tags`.
pub(crate) fn run(args: &TagsArgs, context: &Context) -> Result<()> {
    let runtime = interrupt::runtime()?;
    let interrupt = interrupt::Interrupt::listen(&runtime)?;
    let progress = Progress::steps("operations", &context.out);
    let steps = 3 * args.bytes.len() as u64;
    let mut rows = Vec::new();
    for &bytes in &args.bytes {
        let len = usize::try_from(bytes)
            .ok()
            .filter(|len| *len <= MESSAGE_BYTES_MAX)
            .ok_or_else(|| CliError::usage(format!("a message has at most {MESSAGE_BYTES_MAX} bytes")))?;
        let (message, about) = (filler(len, 1), filler(CONTEXT_BYTES, 2));
        let right = TagKey::new([7; 32]).tag(&[], &message);
        let mut tag = || {
            black_box(TagKey::new(black_box([7; 32])).tag(&[], black_box(&message)));
        };
        let mut check = || {
            black_box(TagKey::new(black_box([7; 32])).verify(&[], black_box(&message), &right));
        };
        let mut validate = || {
            black_box(key_tag(black_box(&[7; 32]), &about, black_box(&message)));
        };
        let operations: [(&str, &mut dyn FnMut()); 3] =
            [("tag", &mut tag), ("check", &mut check), ("key tag", &mut validate)];
        for (name, operation) in operations {
            rows.push(Row::new(name, bytes, time(args.time, &interrupt, operation)?));
            progress.set(rows.len() as u64, steps);
        }
    }
    progress.clear();
    Measured::new(MEASURED, &rows).print(context)
}
