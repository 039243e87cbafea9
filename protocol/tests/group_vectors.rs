//! Agreements with several receivers against `vectors/dske-groups.json`, byte for byte: what each hub makes of the
//! sender's request, and what each receiver makes of what the hubs pass on.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::VecDeque;

use dske_protocol::{
    effect::{BlockKey, Minted, PadEffect, PadOutcome},
    enrolment::Signature,
    hub::{Hub, HubClient, HubEffect, HubInput, RequestId},
    ids::{Lane, NodeId, PadRange, TableId},
    message::{Identity, KeyRequest, Unverified},
    pad::PadBytes,
    params::{AcceptancePolicy, KEY_BYTES_MAX, Time, Validate},
    receiver::{Receiver, ReceiverEffect, ReceiverInput},
    sharing::Scheme,
    tag::KeyTag,
};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::Value;

fn groups() -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("vectors/dske-groups.json")).unwrap();
    all["groups"].as_array().unwrap().clone()
}

fn hex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    hex(value).try_into().unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn number(value: &Value) -> u8 {
    u8::try_from(value.as_u64().unwrap()).unwrap()
}

fn nodes(value: &Value) -> Vec<NodeId> {
    list(value).iter().map(|id| NodeId::new(array(id))).collect()
}

/// The key tag of each receiver.
fn key_tags(case: &Value) -> Vec<Vec<u8>> {
    list(&case["key_tags"]).iter().map(hex).collect()
}

fn whole(key_tag: &KeyTag) -> Vec<u8> {
    [&key_tag.tag.as_bytes()[..], &key_tag.hint].concat()
}

/// What a hub passes on when it is given a request and these runs, by receiver.
fn passed_on(case: &Value, hub: &Value) -> Vec<Vec<u8>> {
    let sender = NodeId::new(array(&case["sender"]));
    let mut machine = Hub::new(NodeId::new(array(&hub["id"])), KEY_BYTES_MAX);
    for (at, node) in [vec![sender], nodes(&case["receivers"])].concat().into_iter().enumerate() {
        let identity = Identity { node, name: format!("c{at}").parse().unwrap(), applications: Vec::new() };
        machine.set_client(HubClient {
            identity,
            signature: Signature::new([0; 64]),
            known_as: 1,
            enabled: true,
        });
    }
    let input = HubInput::KeyRequest { id: RequestId(1), from: sender, bytes: hex(&hub["request"]) };
    machine.handle(Time::ZERO, input);
    let mut messages = Vec::new();
    while let Some(effect) = machine.poll_effect() {
        let outcome = match effect {
            HubEffect::Pad(PadEffect::Hold { ticket, .. }) => {
                PadOutcome::Held { ticket, result: Ok(PadBytes::mint(hex(&hub["run"]))), block_ended: false }
            }
            HubEffect::Pad(PadEffect::Mint { ticket, wants }) => {
                let runs = list(&hub["receivers"]).iter().zip(&wants).map(|(run, want)| {
                    let bytes = hex(&run["run"]);
                    assert_eq!(want.bytes, bytes.len() as u64);
                    let range = PadRange {
                        table: TableId::new(array(&run["table"])),
                        lane: Lane::Down,
                        offset: run["offset"].as_u64().unwrap(),
                        len: want.bytes,
                    };
                    Minted { range, pad: PadBytes::mint(bytes) }
                });
                PadOutcome::Minted { ticket, result: Ok(runs.collect()) }
            }
            HubEffect::Pad(PadEffect::Commit { ticket, record }) => {
                messages.extend(record.outgoing.into_iter().map(|message| message.bytes));
                PadOutcome::Committed { ticket, ok: true }
            }
            HubEffect::KeyAnswer { result, .. } => {
                assert_eq!(result, Ok(()));
                continue;
            }
            effect => panic!("{effect:?}"),
        };
        machine.handle(Time::ZERO, HubInput::Pad(outcome));
    }
    messages
}

/// The key that a receiver makes of its instructions.
fn received(case: &Value, at: usize) -> Vec<u8> {
    let policy = AcceptancePolicy {
        k_min: 1,
        hubs: list(&case["hubs"]).iter().map(|hub| NodeId::new(array(&hub["id"]))).collect(),
        key_bytes_max: KEY_BYTES_MAX,
        deadline: Time::from_secs(1),
        validate: Validate::First,
    };
    let sender = NodeId::new(array(&case["sender"]));
    let mut machine = Receiver::new(nodes(&case["receivers"])[at], policy, [sender]);
    let mut runs: VecDeque<Vec<u8>> = VecDeque::new();
    let mut key = None;
    for hub in list(&case["hubs"]) {
        let message = &hub["receivers"][at];
        runs.push_back(hex(&message["run"]));
        let (from, bytes) = (NodeId::new(array(&hub["id"])), hex(&message["instruction"]));
        machine.handle(Time::ZERO, ReceiverInput::KeyInstruction { id: RequestId(1), from, bytes });
        while let Some(effect) = machine.poll_effect() {
            let input = match effect {
                ReceiverEffect::Pad(PadEffect::Hold { ticket, .. }) => {
                    let result = Ok(PadBytes::mint(runs.pop_front().unwrap()));
                    ReceiverInput::Pad(PadOutcome::Held { ticket, result, block_ended: false })
                }
                ReceiverEffect::Pad(PadEffect::Commit { ticket, record }) => {
                    if let Some(Ok(BlockKey::Keep(kept))) = record.block.map(|ended| ended.result) {
                        key = Some(kept.0.to_vec());
                    }
                    ReceiverInput::Pad(PadOutcome::Committed { ticket, ok: true })
                }
                ReceiverEffect::Reconstruct { block, group, job } => {
                    let result = job.run(&mut StdRng::seed_from_u64(1), &|| false);
                    ReceiverInput::Reconstructed { block, group, result }
                }
                ReceiverEffect::Answer { result, .. } => {
                    assert_eq!(result, Ok(()));
                    continue;
                }
                _ => continue,
            };
            machine.handle(Time::ZERO, input);
        }
    }
    key.expect("it validates")
}

#[test]
fn shares_secrets_and_key_tags_of_groups() {
    for case in groups() {
        let (n, k) = (number(&case["n"]), number(&case["k"]));
        let shares: Vec<Vec<u8>> = list(&case["hubs"]).iter().map(|hub| hex(&hub["share"])).collect();
        let slices: Vec<&[u8]> = shares.iter().map(Vec::as_slice).collect();
        let (first, rest) = slices.split_at(k.into());
        let scheme = Scheme::new(n, k).unwrap();
        let mut derived = vec![vec![0; first[0].len()]; rest.len()];
        let mut outputs: Vec<&mut [u8]> = derived.iter_mut().map(Vec::as_mut_slice).collect();
        scheme.derive_onto(first, &mut outputs).unwrap();
        assert_eq!(derived, rest);
        let mut secret = vec![0; first[0].len()];
        scheme.secret_onto(first, &mut secret).unwrap();
        assert_eq!(secret, hex(&case["secret_y0"]));

        let us: Vec<Vec<u8>> = list(&case["us"]).iter().map(hex).collect();
        assert_eq!(secret, [us.concat(), hex(&case["key"])].concat());
        let (key, context) = (hex(&case["key"]), hex(&case["context"]));
        let computed = |u: &Vec<u8>| whole(&KeyTag::of(u[..].try_into().unwrap(), &context, &key));
        assert_eq!(us.iter().map(computed).collect::<Vec<_>>(), key_tags(&case));
    }
}

#[test]
fn requests_of_groups_are_read_and_written_byte_for_byte() {
    for case in groups() {
        for hub in list(&case["hubs"]) {
            let bytes = hex(&hub["request"]);
            let message = Unverified::<KeyRequest>::decode(bytes.clone()).unwrap();
            let request = message.unverified();
            assert_eq!(request.key_tags.iter().map(whole).collect::<Vec<_>>(), key_tags(&case));
            assert_eq!(request.agreement.context().unwrap(), hex(&case["context"]));
            assert_eq!(request.agreement.block().as_bytes(), &array(&case["block"]));
            let encoded = dske_protocol::codec::encode(request).unwrap();
            assert_eq!(encoded, bytes[1..bytes.len() - 16]);
            // One key tag less, or one receiver more, is another message, or none.
            for cut in 1..=40 {
                let short = [&bytes[..bytes.len() - 16 - cut], &bytes[bytes.len() - 16..]].concat();
                assert!(Unverified::<KeyRequest>::decode(short).is_err());
            }
        }
    }
}

#[test]
fn a_hub_passes_on_to_each_receiver_its_own_part_and_tag_alone() {
    for case in groups() {
        for hub in list(&case["hubs"]) {
            let expected: Vec<Vec<u8>> =
                list(&hub["receivers"]).iter().map(|message| hex(&message["instruction"])).collect();
            assert_eq!(passed_on(&case, hub), expected);
        }
    }
}

#[test]
fn every_receiver_of_a_group_makes_the_key_of_what_the_hubs_pass_on() {
    for case in groups() {
        for at in 0..list(&case["receivers"]).len() {
            assert_eq!(received(&case, at), hex(&case["key"]));
        }
    }
}
