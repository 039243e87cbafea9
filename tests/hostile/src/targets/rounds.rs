//! Rounds of the Adapted protocol (§3) between a real sender and a real receiver, with all that stands between them in
//! the script's hands: hubs that lie under right tags, mix rounds up, are silent or speak again; a link that loses,
//! repeats, reorders, cuts and changes messages, puts the names of one round on another, and brings what others say;
//! notices and lost sessions that nobody told of; pads that fail; ends that start anew.
//!
//! What must hold stands in [`ends`].

mod ends;
mod lies;

use std::collections::BTreeSet;

use dske_protocol::{
    ids::NodeId,
    message::{Content, Notice, NoticeOutcome},
    negotiation::negotiation_bytes,
    params::Time,
    refusal::{AbortReason, Refusal},
    sender::{HubChoice, KeyWish, RoundWish, SenderInput},
};

use self::ends::{Ends, receiver};
use super::Reached;
use crate::{
    cast::{HUBS, client, hub, way},
    input::{Input, mutate},
};

/// Steps of one script.
const STEPS_MAX: usize = 96;

/// How often something forged is said that is said over and over: past every bound on forged messages.
const TIMES_MAX: usize = 300;

/// Bytes of session, round and block, which stand behind the kind of every message of a negotiation.
const NAMES_BYTES: usize = 16 + 4 + 16;

/// Plays the input as a script.
pub(super) fn play(input: &[u8]) -> Reached {
    let mut script = Input::new(input);
    let mut ends = Ends::new();
    for _ in 0..STEPS_MAX {
        if script.is_empty() {
            break;
        }
        step(&mut ends, &mut script);
    }
    ends.finish()
}

fn step(ends: &mut Ends, script: &mut Input<'_>) {
    match script.u8() % 16 {
        0 => agree(ends, script),
        1 => begin_round(ends, script),
        2..=4 => pass_on(ends, script),
        5 => hub_answers(ends, script),
        6..=8 => say(ends, script),
        9 => {
            let (from, kind) = (script.u8(), 16 + script.u8() % 4);
            let bytes = [&[kind], script.chunk(), &[0; 16]].concat();
            ends.deliver(client(from % 4), kind, bytes);
        }
        10 => notice(ends, script),
        11 => {
            let lost = ends.lost.get(script.below(ends.lost.len())).copied();
            let known = ends.sessions();
            let invented = known.get(script.below(known.len())).copied();
            if let Some(session) = if script.u8() & 1 == 0 { lost } else { invented } {
                let from = client(script.u8() % 3);
                ends.tell_lost(from, way(script.u8()).unwrap_or(from), session);
            }
        }
        12 => ends.pass_time(Time::from_millis(u64::from(script.u16()))),
        13 => trouble(ends, script),
        14 => match script.u8() % 3 {
            0 => ends.restart_sender(),
            1 => ends.restart_receiver(),
            _ => ends.exclude(hub(script.u8() % HUBS)),
        },
        _ => flow(ends, script.u8()),
    }
    if !script.u8().is_multiple_of(4) {
        ends.settle();
    }
}

/// A General agreement: on a key, or on one that negotiates rounds.
fn agree(ends: &mut Ends, script: &mut Input<'_>) {
    let what = script.u8();
    let n = 1 + script.u8() % HUBS;
    let (k, length) = (1 + script.u8() % n, 1 + script.u8() % 8);
    let negotiates = what & 1 != 0;
    let bytes = if negotiates { negotiation_bytes(n, k, u32::from(length)) } else { u32::from(length) };
    let linked = if what & 2 == 0 { BTreeSet::from([receiver()]) } else { BTreeSet::new() };
    let deadline = ends.now + Time::from_secs(20);
    let wish = KeyWish {
        receivers: vec![receiver()],
        key_bytes: bytes,
        content: if negotiates { Content::Negotiation } else { Content::Keys(1) },
        keep: true,
        confirm: what & 4 == 0,
        purpose: String::new(),
        k,
        n: 0,
        hubs: (0..n).map(|at| HubChoice { node: hub(at), reachable: true, left: u64::MAX }).collect(),
        linked,
        deadline,
        notice_deadline: deadline,
    };
    ends.wish(|id| SenderInput::Start { id, wish });
}

fn begin_round(ends: &mut Ends, script: &mut Input<'_>) {
    let known = ends.sessions();
    let Some(&session) = known.get(script.below(known.len())) else { return };
    let (keys, each, away) = (script.u8() % 4, script.u8() % 48, script.u8());
    let wish = RoundWish {
        session,
        key_bytes: u32::from(keys) * u32::from(each),
        keys: keys.into(),
        purpose: "round".to_owned(),
        reachable: (0..HUBS).filter(|at| away >> at & 1 == 0).map(hub).collect(),
        deadline: ends.now + Time::from_secs(u64::from(script.u8())),
    };
    ends.wish(|id| SenderInput::Round { id, wish });
}

/// A hub passes its share on, true or not, and may tell the sender so.
fn pass_on(ends: &mut Ends, script: &mut Input<'_>) {
    let at = script.below(ends.asked.len());
    let other = ends.asked.get(usize::from(script.u8())).cloned();
    let lie = lies::Lie { how: script.u8(), with: script.u8(), other };
    let answers = script.u8();
    let changed = |bytes: &mut Vec<u8>| mutate(script, bytes);
    ends.pass_on(at, |instruction| lies::tell(&lie, instruction), changed);
    if answers & 1 != 0 {
        ends.hub_answers(at, Some(Ok(())));
    }
}

fn hub_answers(ends: &mut Ends, script: &mut Input<'_>) {
    let at = script.below(ends.asked.len());
    let answers = [None, Some(Err(Refusal::Busy)), Some(Err(Refusal::UnknownRound)), Some(Ok(()))];
    if let Some(answer) = answers.get(script.below(answers.len())) {
        ends.hub_answers(at, *answer);
    }
}

/// The link brings something that one end has said: once more or for the first time, as it was or changed.
fn say(ends: &mut Ends, script: &mut Input<'_>) {
    let (at, names_of) = (script.below(ends.said.len()), script.u8());
    let Some(mut bytes) = ends.said.get(at).cloned() else { return };
    let (from, route, times) = (script.u8(), script.u8(), script.u8());
    let kind = bytes.first().copied().unwrap_or(0);
    if let Some(other) = usize::from(names_of).checked_sub(1).and_then(|other| ends.said.get(other))
        && let (Some(names), Some(place)) = (other.get(1..=NAMES_BYTES), bytes.get_mut(1..=NAMES_BYTES))
    {
        place.copy_from_slice(names);
    }
    mutate(script, &mut bytes);
    let forged = !ends.said.contains(&bytes);
    let from = if from == 0 { ends::author(kind) } else { client(from % 4) };
    for _ in 0..if forged && times == u8::MAX { TIMES_MAX } else { 1 } {
        ends.deliver(from, if route == 0 { kind } else { 16 + route % 3 }, bytes.clone());
    }
}

/// What a receiver said of an end, or somebody made up.
fn notice(ends: &mut Ends, script: &mut Input<'_>) {
    let from = client(script.u8() % 3);
    let true_one = ends.notices.get(script.below(ends.notices.len())).cloned();
    let block = ends.asked.get(script.below(ends.asked.len())).map(|asked| asked.request.agreement.block());
    let invented = |outcome| block.map(|block| Notice { block, outcome });
    let notice = match script.u8() % 3 {
        0 => true_one,
        1 => invented(NoticeOutcome::Aborted(AbortReason::UnknownRound)),
        _ => invented(NoticeOutcome::Validated { shares: script.u8(), false_positions: vec![script.u8()] }),
    };
    if let Some(notice) = notice {
        ends.tell_end(from, way(script.u8()), notice);
    }
}

fn trouble(ends: &mut Ends, script: &mut Input<'_>) {
    match script.u8() % 6 {
        0 => ends.sender_pads.trouble.mint = true,
        1 => ends.sender_pads.trouble.commit = true,
        2 => ends.receiver_pads.trouble.commit = true,
        3 => ends.receiver_pads.trouble.hold = Some(Refusal::NotSynced),
        4 => ends.answer_sender_pads(script.u8()),
        _ => ends.answer_receiver_pads(script.u8()),
    }
}

/// What waits goes its way, as if nobody meant harm: from the hubs (1), over the link (2), as notices (4).
fn flow(ends: &mut Ends, what: u8) {
    // What one end says makes the other say something; a round has four such turns.
    for _ in 0..8 {
        ends.settle();
        if what & 1 != 0 {
            ends.pass_on_fresh();
        }
        if what & 2 != 0 {
            ends.deliver_fresh();
        }
        if what & 4 != 0 {
            ends.notify_fresh();
        }
    }
}

/// Who a hub is to the script's numbers.
fn is_hub(node: &NodeId) -> bool {
    (0..HUBS).any(|at| hub(at) == *node)
}
