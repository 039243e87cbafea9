//! `dske key ls`, and finding a key by the first digits of its id.

use std::collections::HashMap;

use comfy_table::{Table, presets};
use dske_node::control::{Reply, Request};
use dske_protocol::ids::{KeyId, NodeId};
use dske_storage::{BlockRecord, BlockState, Side};
use serde::Serialize;

use crate::cli::{
    context::Context,
    control::{self, Caller},
    error::{CliError, Result, exit},
    output::printable,
    progress::Progress,
    units,
};

/// Fewest digits that may stand for a whole key id.
const PREFIX_DIGITS_MIN: usize = 4;
/// How far back a key is looked for by its first digits.
const FIND_LIMIT: u32 = 1000;

/// Runs `dske key ls`.
pub(crate) fn run(limit: u32, context: &Context) -> Result<()> {
    #[derive(Serialize)]
    struct Keys {
        keys: Vec<BlockRecord>,
    }
    let blocks = blocks(limit, context)?;
    if context.out.json {
        return context.out.document(&Keys { keys: blocks });
    }
    if blocks.is_empty() {
        context.out.note("no keys yet");
        return Ok(());
    }
    context.out.line(table(&blocks, &names(context)).trim_fmt())
}

/// The one key to be taken whose id begins with these digits, and its length in bytes.
pub(crate) fn find(digits: &str, context: &Context) -> Result<(KeyId, u64)> {
    let digits = digits.to_ascii_lowercase();
    if digits.len() < PREFIX_DIGITS_MIN || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        let message = format!("'{}' is no key id", printable(&digits));
        return Err(CliError::usage(message)
            .help("`dske key ls` shows the ids; the first four digits or more will do"));
    }
    choose(&digits, &blocks(FIND_LIMIT, context)?)
}

/// The length of a key in bytes, if it is one of the newest that are there.
pub(crate) fn length(id: &KeyId, caller: &Caller, context: &Context) -> Result<Option<u64>> {
    let request = Request::KeyList { limit: FIND_LIMIT };
    match caller.ask(context, &context.dir()?, request, context.globals.timeout)? {
        Reply::Keys(blocks) => {
            let block = blocks.iter().find(|block| block.block == id.block);
            Ok(block.map(|block| u64::from(block.key_bytes)))
        }
        _ => Err(CliError::strange_reply()),
    }
}

fn choose(digits: &str, blocks: &[BlockRecord]) -> Result<(KeyId, u64)> {
    let fits = |block: &&BlockRecord| {
        block.state == BlockState::Ready && block.block.to_string().starts_with(digits)
    };
    let mut found = blocks.iter().filter(fits);
    match (found.next(), found.next()) {
        (Some(block), None) => Ok((KeyId { block: block.block, index: 0 }, u64::from(block.key_bytes))),
        (Some(_), Some(_)) => {
            Err(CliError::usage(format!("several keys begin with {digits}")).help("give more digits"))
        }
        (None, _) => {
            let message = format!("no key to be taken begins with {digits}");
            Err(CliError::new("dske::key::unknown", exit::OTHER, message)
                .help("`dske key ls` shows the keys"))
        }
    }
}

fn blocks(limit: u32, context: &Context) -> Result<Vec<BlockRecord>> {
    let dir = context.dir()?;
    match control::either_way(context, &dir, Request::KeyList { limit }, &Progress::hidden())? {
        Reply::Keys(blocks) => Ok(blocks),
        _ => Err(CliError::strange_reply()),
    }
}

/// Names of clients, as far as the running node knows them. Without them the ids are shown.
fn names(context: &Context) -> HashMap<NodeId, String> {
    let status = context
        .dir()
        .and_then(|dir| control::online(context, &dir, Request::Status, context.globals.timeout));
    let Ok(Reply::Status(status)) = status else { return HashMap::new() };
    let own = (status.node.id, status.node.name.to_string());
    let others = status.identities.into_iter().map(|identity| (identity.node, identity.name.to_string()));
    others.chain([own]).collect()
}

fn table(blocks: &[BlockRecord], names: &HashMap<NodeId, String>) -> Table {
    let name = |node: &NodeId| names.get(node).cloned().unwrap_or_else(|| format!("{}…", node.short()));
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["KEY", "FROM", "TO", "LENGTH", "N", "K", "STATE", "FOR"]);
    for block in blocks {
        let receivers: Vec<String> = block.receivers.iter().map(name).collect();
        table.add_row([
            block.block.to_string(),
            name(&block.sender),
            receivers.join(", "),
            units::bits(u64::from(block.key_bytes).saturating_mul(8)),
            block.n.to_string(),
            block.k.to_string(),
            state(block),
            printable(&block.purpose),
        ]);
    }
    table
}

fn state(block: &BlockRecord) -> String {
    match (&block.state, block.side) {
        (BlockState::Ready, Side::Receiver) => "to be fetched".into(),
        (BlockState::Ready, Side::Sender) => "ready".into(),
        (BlockState::Taken, _) => "taken".into(),
        (BlockState::Aborted { reason }, _) => format!("aborted: {}", printable(reason)),
    }
}

#[cfg(test)]
mod tests {
    use dske_protocol::ids::BlockId;

    use super::*;

    fn block(first: u8, state: BlockState) -> BlockRecord {
        let mut id = [0; 16];
        id[0] = first;
        let sender = NodeId::new([1; 32]);
        let (block, receivers) = (BlockId::new(id), vec![NodeId::new([2; 32])]);
        let (side, purpose) = (Side::Receiver, "a\u{1b}b".to_owned());
        BlockRecord {
            block,
            side,
            sender,
            receivers,
            purpose,
            key_bytes: 32,
            n: 5,
            k: 3,
            state,
            at_ms: 0,
            aged_ms: 0,
            round: false,
        }
    }

    #[test]
    fn a_prefix_finds_the_one_key_that_is_ready() {
        let blocks =
            [block(0xa0, BlockState::Ready), block(0xa1, BlockState::Ready), block(0xb0, BlockState::Taken)];
        assert!(choose("a000", &blocks).is_ok_and(|(id, _)| id.block == blocks[0].block));
        assert!(choose("a", &blocks).is_err_and(|error| error.to_string().contains("several")));
        assert!(choose("b000", &blocks).is_err_and(|error| error.exit() == 1));
    }

    #[test]
    fn the_list_is_safe_to_print() {
        let names = HashMap::from([(NodeId::new([2; 32]), "bob".to_owned())]);
        let text = table(&[block(0xa0, BlockState::Ready)], &names).to_string();
        for part in ["a0000000", "01010101…", "bob", "256 bit", "to be fetched", "a\\u{1b}b"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
