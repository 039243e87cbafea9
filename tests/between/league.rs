//! A group of three: one hub and one receiver are in league against the other receiver. The hub's share reaches him among
//! the first, moved so that with the honest one beside it it gives another key, which would have its tag if he had the
//! same u as the member of the league.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use dske_hostile::between::{Fate, Said};
use dske_protocol::{
    codec,
    coefficients::Coefficients,
    field::Gf256,
    ids::{Lane, NodeId, PadRange},
    message::{KeyInstruction, Unverified, seal},
    pad::{TAG_KEY_BYTES, TagKey},
    sharing::Scheme,
    tag::{KeyTag, U},
};
use libp2p::PeerId;
use rustix::process::Signal;

use crate::{
    common::{Net, error, eventually},
    stand_before,
};

const N: u8 = 3;
const K: u8 = 2;
/// What stands before a lane's bytes in its file.
const LANE_HEAD_BYTES: u64 = 8192;
const INSTRUCTIONS: u32 = 1;
/// The bytes of u that the tag is masked with: behind the point at which it is taken.
const MASK_AT: usize = 16;

/// Lanes of a node's tables, as they were when they were read.
#[derive(Default)]
struct Pads(BTreeMap<String, Vec<u8>>);

impl Pads {
    /// Adds the lanes from hub to client of all tables in a node's directory.
    fn read(&mut self, dir: &Path) {
        for table in std::fs::read_dir(dir.join("store/lanes")).unwrap() {
            let table = table.unwrap();
            let lane = std::fs::read(table.path().join("down.lane")).unwrap();
            self.0.insert(table.file_name().into_string().unwrap(), lane);
        }
    }

    fn run(&self, range: &PadRange) -> &[u8] {
        assert_eq!(range.lane, Lane::Down);
        let lane = &self.0[&range.table.to_string()];
        let at = |offset: u64| usize::try_from(LANE_HEAD_BYTES + offset).unwrap();
        &lane[at(range.offset)..at(range.end().unwrap())]
    }

    /// A hub's message to a receiver, its share under no pad.
    fn opened(&self, sealed: &[u8]) -> KeyInstruction {
        let message = Unverified::<KeyInstruction>::decode(sealed.to_vec()).unwrap();
        let mut body = message.unverified().clone();
        let run = self.run(&body.range);
        body.share.0.iter_mut().zip(run).for_each(|(byte, pad)| *byte ^= pad);
        body
    }

    /// What the hub makes of such a message again.
    fn closed(&self, mut body: KeyInstruction) -> Vec<u8> {
        let run = self.run(&body.range);
        body.share.0.iter_mut().zip(run).for_each(|(byte, pad)| *byte ^= pad);
        let key = run[run.len() - TAG_KEY_BYTES..].try_into().unwrap();
        seal(&body, TagKey::new(key)).unwrap()
    }
}

/// What the league knows, and what it has done.
#[derive(Default)]
struct League {
    pads: Pads,
    /// The member's shares, by position in the roster.
    shares: BTreeMap<u8, KeyInstruction>,
    moved: usize,
}

fn xor(one: &[u8], other: &[u8]) -> Vec<u8> {
    one.iter().zip(other).map(|(one, other)| one ^ other).collect()
}

fn parts(secret: &[u8]) -> (&U, &[u8]) {
    secret.split_first_chunk().unwrap()
}

impl League {
    /// The member's u and the key, once it has as many shares as it needs.
    fn secret(&self) -> Option<Vec<u8>> {
        if self.shares.len() < K.into() {
            return None;
        }
        let basis: Vec<u8> = self.shares.keys().copied().collect();
        let given: Vec<&[u8]> = self.shares.values().map(|body| body.share.0.as_slice()).collect();
        let mut secret = vec![0; given[0].len()];
        Scheme::new(N, K).unwrap().reconstruct_onto(&basis, &given, &mut secret).unwrap();
        Some(secret)
    }

    /// Moves the hub's share for the victim, so that with that of the honest hub at `other` it gives another key.
    fn attack(&mut self, hub: u8, other: u8, body: &mut KeyInstruction) -> Option<()> {
        let secret = self.secret()?;
        let (u, key) = parts(&secret);
        let context = body.agreement.context().unwrap();
        let lie: Vec<u8> = key.iter().map(|byte| byte ^ 0xa5).collect();
        let (tag, other_tag) = (KeyTag::of(u, &context, key).tag, KeyTag::of(u, &context, &lie).tag);
        let mut offset = vec![0; secret.len()];
        offset[MASK_AT..MASK_AT + 16].copy_from_slice(&xor(tag.as_bytes(), other_tag.as_bytes()));
        offset[size_of::<U>()..].copy_from_slice(&xor(key, &lie));
        // The same done to the member itself would pass.
        let shifted = xor(&secret, &offset);
        let (u, key) = parts(&shifted);
        assert!(
            KeyTag::of(u, &context, key) == self.shares[&hub].key_tag,
            "the attack is not what it should be"
        );
        let factor = Coefficients::<Gf256>::new(K).secret_row(&[hub, other]).next().unwrap();
        let error: Vec<u8> = offset.iter().map(|&byte| Gf256(byte).div(factor).0).collect();
        body.share.0 = xor(&body.share.0, &error);
        self.moved += 1;
        Some(())
    }
}

/// The sealed messages of an exchange from hub to client, where it is one.
fn instructions(said: Said, bytes: &[u8]) -> Option<Vec<codec::Blob>> {
    let kind = u32::from_le_bytes(bytes.get(4..8)?.try_into().unwrap());
    (!said.to_hub && !said.is_answer && kind == INSTRUCTIONS)
        .then(|| codec::decode(&bytes[8..], bytes.len()).unwrap())
}

fn exchange(messages: &Vec<codec::Blob>) -> Vec<u8> {
    let body = [INSTRUCTIONS.to_le_bytes().to_vec(), codec::encode(messages).unwrap()].concat();
    [u32::try_from(body.len()).unwrap().to_le_bytes().to_vec(), body].concat()
}

fn peer_id(net: &Net, node: &str) -> PeerId {
    net.status(node)["node"]["peer_id"].as_str().unwrap().parse().unwrap()
}

#[test]
fn a_lying_hub_and_a_member_of_a_group_in_league_give_the_other_member_no_wrong_key() {
    let net = Net::up(N, 3, K, "1MiB");
    for with in ["bob", "carol"] {
        net.acquaint("alice", with);
    }
    let [bob, carol] = ["bob", "carol"].map(|client| peer_id(&net, client));
    let nodes = ["p1", "p2"]
        .map(|hub| serde_json::from_value::<NodeId>(net.status(hub)["node"]["id"].clone()).unwrap());
    let league = Arc::new(Mutex::new(League::default()));
    // The member's own pads, and those of the hub.
    league.lock().unwrap().pads.read(&net.node_dir("carol"));
    league.lock().unwrap().pads.read(&net.node_dir("p1"));
    let position = |body: &KeyInstruction, node: &NodeId| {
        let at = body.agreement.roster.iter().position(|hub| hub == node);
        u8::try_from(at.unwrap()).unwrap()
    };
    let hears = |hub: NodeId| {
        let league = Arc::clone(&league);
        move |messages: &[codec::Blob]| {
            let mut league = league.lock().unwrap();
            for message in messages {
                let body = league.pads.opened(&message.0);
                if body.agreement.receivers.len() == 2 {
                    let at = position(&body, &hub);
                    league.shares.insert(at, body);
                }
            }
        }
    };
    // The honest hub: what it says to the member is the member's.
    let hear = hears(nodes[1]);
    let honest = stand_before(
        &net,
        "p2",
        &["alice", "bob", "carol"],
        Arc::new(move |said: Said, bytes: Vec<u8>| {
            if let Some(messages) = instructions(said, &bytes).filter(|_| said.client == carol) {
                hear(&messages);
            }
            Fate::Passed(bytes)
        }),
    );
    let hear = hears(nodes[0]);
    let attackers = Arc::clone(&league);
    let bad = stand_before(
        &net,
        "p1",
        &["alice", "bob", "carol"],
        Arc::new(move |said: Said, bytes: Vec<u8>| {
            let Some(mut messages) = instructions(said, &bytes) else { return Fate::Passed(bytes) };
            if said.client == carol {
                hear(&messages);
            } else if said.client == bob {
                let mut league = attackers.lock().unwrap();
                for message in &mut messages {
                    let mut body = league.pads.opened(&message.0);
                    if body.agreement.receivers.len() != 2 {
                        continue;
                    }
                    let (hub, other) = (position(&body, &nodes[0]), position(&body, &nodes[1]));
                    // The member's shares are awaited.
                    if league.attack(hub, other, &mut body).is_none() {
                        return Fate::Held(bytes);
                    }
                    message.0 = league.pads.closed(body);
                }
                return Fate::Passed(exchange(&messages));
            }
            Fate::Passed(bytes)
        }),
    );
    for client in ["alice", "bob", "carol"] {
        crate::uses_all(&net, client);
    }

    // The third hub says nothing until the false share has been there for a while.
    assert!(net.signal("p3", Signal::STOP).is_some());
    let group = ["key", "get", "--with", "bob", "--with", "carol", "--bits", "256"];
    let sent = std::thread::scope(|scope| {
        let sent = scope.spawn(|| net.try_key("alice", &group));
        eventually("the share is moved", || league.lock().unwrap().moved > 0);
        std::thread::sleep(Duration::from_secs(1));
        net.signal("p3", Signal::CONT);
        sent.join().unwrap().unwrap_or_else(|output| panic!("{}", error(&output)))
    });
    assert_eq!(net.fetch("carol", &sent.id).bytes, sent.bytes, "the member has the key");
    let held = net.fetch("bob", &sent.id);
    assert_eq!(held.bytes, sent.bytes, "the other member holds another key");
    assert_eq!(held.report["liars"], serde_json::json!(["p1"]), "{}", held.report);
    drop((honest, bad));
}
