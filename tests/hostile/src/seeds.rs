//! Inputs to begin with: real messages, files and scripts. From an empty corpus no fuzzer gets past a magic number.

mod rounds;

use dske_node::{
    config::{Config, Role},
    enrol::{EnrolmentRequest, FORMAT},
    fuzzing as node,
};
use dske_protocol::{
    codec,
    ids::{BlockId, KeyId, Lane, NodeId, PadRange},
    limits::{Limit, Limits, LimitsRecord},
    message::{
        ClientMark, HubMark, IdentityClaim, IdentityRequest, KnownClient, LimitsAnswer, LimitsOrder, Mark,
        Notice, NoticeOutcome, Subject, Tagged, seal,
    },
    negotiation::{Choice, Confirmation, Offer},
    pad::TagKey,
    quota::{Account, Quota},
    refusal::AbortReason,
    tag::{KeyTag, Tag},
};
use dske_storage::{
    BlockRecord, BlockState, BudgetRecord, ClientRecord, ClockRecord, ExclusionRecord, HubRecord,
    IdentityRecord, Side, StreamRecord,
    fuzzing::{self as storage, ModuleText},
    log::Batch,
};

use crate::{
    cast::{Agreed, client, hub, identity, signature},
    input::Input,
    pads::table_of,
    targets::{messages::KEY, module::CLIENT},
};

/// The seeds of a target.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "messages" => messages(),
        "wire" => node::wire_seeds(&messages().swap_remove(0)),
        "control" => control(),
        "text" => text(),
        "config" => config(),
        "files" => files(),
        "hub" => hub_scripts(),
        "receiver" => receiver_scripts(),
        "rounds" => rounds::scripts(),
        "identity" => identity_scripts(),
        "sender" => sender_scripts(),
        "sync" => sync_scripts(),
        "module" => modules(),
        "socket" => node::socket_seeds(),
        "store" => store_scripts(),
        _ => Vec::new(),
    }
}

fn agreed() -> Agreed {
    Agreed::draw(&mut Input::new(&[1, 0, 3, 0, 1, 0, 4, 31]), client(2))
}

fn run(hub: &NodeId, lane: Lane, len: u64) -> PadRange {
    PadRange { table: table_of(hub), lane, offset: 64, len }
}

fn messages() -> Vec<Vec<u8>> {
    fn sealed<T: Tagged>(body: &T) -> Vec<u8> {
        seal(body, TagKey::new(KEY)).expect("it has an encoding")
    }
    fn negotiated<T: serde::Serialize>(kind: u8, body: &T) -> Vec<u8> {
        let mut bytes = vec![kind];
        codec::encode_into(body, &mut bytes).expect("it has an encoding");
        let tag = TagKey::new(KEY).tag(&[], &bytes);
        bytes.extend_from_slice(tag.as_bytes());
        bytes
    }
    let (session, block, tag) = (BlockId::new([2; 16]), BlockId::new([1; 16]), Tag::new([5; 16]));
    let key_tag = KeyTag { tag, hint: [6; 8] };
    let agreed = agreed();
    let burned = |lane| agreed.agreement.burned_bytes(lane);
    let group = Agreed::draw(&mut Input::new(&[1, 0, 3, 0, 1, 1, 4, 31]), client(2));
    let group_burned = group.agreement.burned_bytes(Lane::Up);
    let up = run(&hub(0), Lane::Up, 32);
    let down = run(&hub(0), Lane::Down, 32);
    let nonce = codec::decode(&[3; 16], 16).expect("a nonce");
    let mark = |range| Mark {
        range,
        nonces: [nonce; 2],
        own: 96,
        own_was: 32,
        seen: 128,
        seen_was: 64,
        used_below: 64,
        lease: 64,
        keys: 7168,
        keys_seen: 7200,
        unsure: false,
    };
    let pad = vec![9; 256];
    let known = KnownClient { identity: identity(1), signature: signature(1), known_as: 7 };
    let notice = |outcome| Notice { block: BlockId::new([1; 16]), outcome };
    let validated = notice(NoticeOutcome::Validated { shares: 3, false_positions: vec![1] });
    let aborted =
        notice(NoticeOutcome::Aborted(AbortReason::NoneValidates { received: 3, k: 2, n: 4, at_least: 2 }));
    vec![
        sealed(&agreed.request(0, run(&hub(0), Lane::Up, burned(Lane::Up)), &pad)),
        sealed(&agreed.request(3, run(&hub(3), Lane::Up, burned(Lane::Up)), &pad)),
        sealed(&agreed.instruction(2, run(&hub(2), Lane::Down, burned(Lane::Down)), &pad)),
        sealed(&IdentityRequest { range: up, subject: Subject::Node(client(1)) }),
        sealed(&IdentityRequest { range: up, subject: Subject::Name(identity(1).name) }),
        sealed(&IdentityClaim { range: down, request: up, known: Some(known) }),
        sealed(&IdentityClaim { range: down, request: up, known: None }),
        sealed(&ClientMark(mark(up))),
        sealed(&HubMark(mark(down))),
        sealed(&LimitsOrder { range: up, version: 3, limits: limits_record().limits }),
        sealed(&LimitsAnswer { range: down, request: up, version: 3 }),
        negotiated(16, &Offer { session, round: 2, block, shares: vec![(0, tag), (3, tag)] }),
        negotiated(17, &Choice { session, round: 2, block, offered: 3, positions: vec![0, 3], key_tag }),
        negotiated(18, &Confirmation { session, round: 2, block }),
        codec::encode(&validated).expect("it has an encoding"),
        codec::encode(&aborted).expect("it has an encoding"),
        agreed.agreement.context().expect("it has an encoding"),
        sealed(&group.request(0, run(&hub(0), Lane::Up, group_burned), &pad)),
        sealed(&group.request(3, run(&hub(3), Lane::Up, group_burned), &pad)),
    ]
}

fn control() -> Vec<Vec<u8>> {
    let mut seeds = node::socket_seeds();
    seeds.extend(node::reply_seeds());
    seeds
}

fn text() -> Vec<Vec<u8>> {
    let block = BlockId::new([0xa5; 16]);
    let texts = [
        "p1.example_a-b".to_owned(),
        NodeId::new([0x5a; 32]).to_string(),
        block.to_string(),
        KeyId { block, index: 7 }.to_string(),
    ];
    texts.map(String::into_bytes).to_vec()
}

fn config() -> Vec<Vec<u8>> {
    let mut config = Config::new("p1".parse().expect("a name"), [Role::Hub, Role::Client]);
    config.node.applications.push("vpn".to_owned());
    config.policy.hubs.push("p2/3f2a9c01".parse().expect("a node"));
    let enrolment = EnrolmentRequest {
        format: FORMAT,
        name: identity(1).name,
        node: client(1),
        peer_id: "12D3KooW".to_owned(),
        applications: identity(1).applications,
        signature: signature(1),
    };
    let template = include_bytes!("../../../src/cli/config_template.toml").to_vec();
    let texts = [config.to_toml(), enrolment.to_toml()];
    let mut seeds: Vec<_> = texts.map(|text| text.expect("it has a text").into_bytes()).to_vec();
    seeds.push(template);
    seeds
}

fn files() -> Vec<Vec<u8>> {
    let with = |what: u8, bytes: Vec<u8>| [vec![what], bytes].concat();
    let batch = Batch::from([(b"t1".to_vec(), Some(vec![1, 2, 3])), (b"u2".to_vec(), None)]);
    let changes = storage::journal_changes(&batch);
    let record = |sequence| storage::journal_record(sequence, &changes);
    let chunk = |sequence: u8, changes: &[u8]| {
        let len = u16::try_from(changes.len()).expect("short").to_le_bytes();
        [&[sequence], len.as_slice(), changes].concat()
    };
    let mut seeds = vec![
        with(0, storage::lane_slot_seed()),
        with(0x80, storage::lane_slot_seed()),
        with(1, storage::journal_slot_seed()),
        with(0x81, storage::journal_slot_seed()),
        with(2, [record(0), record(1)].concat()),
        with(0x82, [chunk(0, &changes), chunk(1, &changes)].concat()),
        with(4, storage::header_seed(false)),
        with(4, storage::header_seed(true)),
    ];
    seeds.extend(records().into_iter().map(|record| with(3, record)));
    seeds
}

/// Records of the ledger as a store holds them.
fn records() -> Vec<Vec<u8>> {
    let name = || identity(1).name;
    let block = BlockRecord {
        block: BlockId::new([1; 16]),
        side: Side::Receiver,
        sender: client(0),
        receivers: vec![client(1)],
        purpose: "test".to_owned(),
        key_bytes: 32,
        n: 4,
        k: 2,
        state: BlockState::Aborted { reason: "too few".to_owned() },
        at_ms: 1,
        aged_ms: 1,
        round: false,
    };
    let addresses = || vec!["/ip4/127.0.0.1/tcp/7001".to_owned()];
    let mut records = vec![
        storage::record_seed(&block),
        storage::record_seed(&HubRecord { node: hub(0), name: name(), addresses: addresses(), since_ms: 1 }),
        storage::record_seed(&ExclusionRecord { hub: hub(0), reason: "it lied".to_owned(), at_ms: 1 }),
        storage::record_seed(&IdentityRecord {
            node: client(1),
            name: name(),
            applications: vec!["vpn".to_owned()],
            known_as: vec![(hub(0), 7)],
            established_ms: 1,
        }),
        storage::record_seed(&ClientRecord {
            node: client(1),
            name: name(),
            local_id: 1,
            signature: signature(1),
            applications: Vec::new(),
            enabled: true,
            enrolled_ms: 1,
        }),
    ];
    let account = Account::Lane { sender: client(0), hub: hub(0) };
    records.extend([
        storage::record_seed(&StreamRecord {
            receivers: vec![client(1)],
            purpose: "test".to_owned(),
            key_bytes: 32,
            low: 16,
            high: 64,
        }),
        storage::record_seed(&BudgetRecord { account, full_at_ms: 7, quota: Quota::per_hour(8) }),
        storage::record_seed(&limits_record()),
        storage::record_seed(&ClockRecord { running_ms: 1, age_ms: 2, wall_ms: 3 }),
    ]);
    records.extend(crate::targets::store_records());
    records
}

fn limits_record() -> LimitsRecord {
    let limit = Limit { bytes: 960, per_s: 3600 };
    let limits = Limits { named: vec![(client(2), limit)], each: Some(limit), all: None };
    LimitsRecord { receiver: client(1), hub: hub(0), version: 3, limits }
}

fn modules() -> Vec<Vec<u8>> {
    let manifest = storage::manifest_seed(CLIENT, [4096, 8192]);
    let frame = |bytes: &[u8], len: usize| {
        let len = u16::try_from(len).expect("short").to_le_bytes();
        [len.as_slice(), bytes].concat()
    };
    let parts = |flags: u8| {
        let lanes = [frame(&[1; 5], 4), frame(&[], 8)].concat();
        [vec![flags], 12288u64.to_le_bytes().to_vec(), frame(&manifest, manifest.len()), lanes].concat()
    };
    // The last frame gives way to the digest; lanes are in KiB, mostly zeros.
    let good = [parts(2 | 4), frame(&[], 0)].concat();
    let key = [1; 32];
    let whole = |digest| {
        let frames = vec![manifest.clone(), vec![1; 4096], vec![2; 8192], vec![0; 32]];
        let text = ModuleText { bytes: 12288, frames, digest };
        storage::seal_module_under(&text, &key)
    };
    let short = |mut file: Vec<u8>| {
        file.truncate(1200);
        file
    };
    vec![
        good.clone(),
        [&[2 | 4 | 16], &good[1..]].concat(),
        [&[4 | 8], &good[1..]].concat(),
        [vec![1], short(whole(true))].concat(),
        [vec![1], storage::header_seed(true)].concat(),
    ]
}

/// Every change of a stored value that the script's language has.
fn store_scripts() -> Vec<Vec<u8>> {
    let put = |key: Vec<u8>, value: &[u8]| {
        let frame = |bytes: &[u8]| {
            let len = u16::try_from(bytes.len()).expect("short").to_le_bytes();
            [len.as_slice(), bytes].concat()
        };
        [vec![0], frame(&key), frame(value)].concat()
    };
    let mut seeds = vec![vec![], vec![2, 0], vec![2, 3], vec![2, 4]];
    for at in 0..8 {
        seeds.push(vec![1, at, 1, 0, 3, 0x40]);
        seeds.push(vec![3, at, 1, 5, 20]);
        seeds.push(vec![4, at, 0, 40, 1]);
    }
    // Which of the block's keys are taken: a record that is too short to say it of any.
    let taken = [b"k".as_slice(), &[5; 16], &[0; 4]].concat();
    seeds.push(put(taken, &0u64.to_le_bytes()));
    for record in records() {
        seeds.push(put([b"t", [3; 16].as_slice()].concat(), &record));
    }
    seeds
}

/// Parameters of an agreement as [`Agreed::draw`] reads them.
fn parameters(block: u8, sender: u8, n: u8, k: u8) -> Vec<u8> {
    vec![block, sender, n - 1, 0, k - 1, 0, 3, 31]
}

fn hub_scripts() -> Vec<Vec<u8>> {
    // Operation, receiver, parameters, position, changes before and after sealing, pads answer at once.
    let request = |receiver: u8, position: u8, body: &[u8], sealed: &[u8]| {
        [&[0, receiver], parameters(1, 0, 4, 2).as_slice(), &[position], body, sealed, &[1]].concat()
    };
    let round = [&[0, 2], parameters(0x41, 0, 4, 2).as_slice(), &[3, 0, 0, 1]].concat();
    let identity = |from: u8, about: u8, by_name: u8| vec![3, from, about, by_name, 0, 0, 1];
    vec![
        request(2, 0, &[0], &[0]),
        request(2, 3, &[0], &[0]),
        request(2, 0, &[1, 0, 60, 0, 0xff], &[0]),
        request(2, 0, &[0], &[1, 0, 60, 0, 0xff]),
        request(3, 1, &[0], &[0]),
        round,
        [request(2, 0, &[0], &[0]), vec![5, 0, 0, 1], vec![5, 0, 2, 1]].concat(),
        [request(2, 0, &[0], &[0]), request(1, 2, &[0], &[0]), identity(1, 2, 0), identity(0, 4, 1)].concat(),
        [vec![6, 1], request(2, 0, &[0], &[0]), vec![7, 1], request(2, 0, &[0], &[0])].concat(),
        [vec![4, 1, 3, 0, 1, 2, 3, 1], vec![8, 1, 0], request(2, 1, &[0], &[0]), vec![9, 0, 1]].concat(),
    ]
}

fn receiver_scripts() -> Vec<Vec<u8>> {
    let agree = |block, sender, n, k| [&[0], parameters(block, sender, n, k).as_slice(), &[15]].concat();
    // Operation, agreement, position, lie in the share, changes before and after sealing, all else at once.
    let share = |which: u8, position: u8| vec![1, which, position, 0, 0, 0, 15];
    let lie = |which: u8, position: u8| vec![1, which, position, 1, 40, 0xff - position, 0, 0, 15];
    let forged = |which: u8, position: u8| vec![1, which, position, 0, 0, 1, 0, 60, 0, 0xff, 15];
    let all = |which: u8, n: u8| (0..n).flat_map(|position| share(which, position)).collect::<Vec<_>>();
    let tick = vec![8, 0xff, 0xff, 15];
    vec![
        [agree(1, 0, 4, 2), all(0, 4)].concat(),
        [agree(1, 0, 4, 2), lie(0, 0), all(0, 4)].concat(),
        [agree(1, 0, 4, 2), lie(0, 0), share(0, 1), share(0, 2), share(0, 3), tick.clone()].concat(),
        [agree(1, 0, 4, 3), lie(0, 0), lie(0, 1), share(0, 2), share(0, 3), tick.clone()].concat(),
        [agree(1, 0, 3, 2), forged(0, 0), share(0, 1), vec![6, 0, 0, 15], share(0, 2)].concat(),
        [agree(1, 1, 3, 2), share(0, 0), share(0, 1), vec![7, 0, 1, 15], share(0, 2)].concat(),
        [agree(1, 1, 3, 2), share(0, 0), vec![7, 0, 0, 15], share(0, 1), tick.clone()].concat(),
        [agree(1, 0, 4, 2), agree(1, 0, 4, 3), share(0, 0), share(1, 1), share(0, 2), share(1, 3)].concat(),
        [agree(1, 0, 2, 2), all(0, 2), agree(1, 0, 2, 2), all(1, 2), tick.clone()].concat(),
        [agree(1, 0, 3, 2), vec![10, 2, 15], all(0, 3), vec![10, 0, 1, 15], tick].concat(),
    ]
}

fn identity_scripts() -> Vec<Vec<u8>> {
    let ask = |about: u8, by_name: u8, without: u8| vec![0, about, by_name, without, 1];
    let claim = |asked: u8| vec![2, asked, 0, 0, 0, 1];
    let lie = |asked: u8, other: u8| vec![2, asked, 1, other, 0, 0, 1];
    let all = (0..4).flat_map(claim).collect::<Vec<_>>();
    vec![
        [ask(1, 0, 0), all.clone()].concat(),
        [ask(1, 1, 0), lie(0, 2), claim(1), claim(2), claim(3)].concat(),
        [ask(1, 1, 8), lie(0, 2), lie(1, 2), claim(2)].concat(),
        [ask(3, 0, 0), all.clone()].concat(),
        [ask(1, 0, 0), ask(1, 0, 0), vec![4, 0, 0, 1], vec![5, 0xff, 0xff, 1]].concat(),
        [ask(1, 0, 0), claim(0), vec![4, 1, 2, 0, 1], claim(2)].concat(),
        [vec![6, 1, 1, 0], ask(1, 0, 0), all].concat(),
    ]
}

fn sender_scripts() -> Vec<Vec<u8>> {
    // Operation, receivers, linked, unreachable hubs, k, key bytes, purpose, hubs, two deadlines, pads at once.
    let wish = |k: u8, hubs: u8, linked: u8| vec![0, 0, linked, 0, k, 32, 0, 2, hubs, 20, 10, 1];
    let accepts = |sent: u8| vec![1, sent, 3, 1];
    let refuses = |sent: u8| vec![1, sent, 2, 1];
    let all = (0..4).flat_map(accepts).collect::<Vec<_>>();
    vec![
        [wish(2, 4, 0), all.clone()].concat(),
        [wish(2, 4, 1), all.clone(), vec![3, 0, 1, 1, 4, 1, 2, 1]].concat(),
        [wish(3, 4, 0), refuses(0), refuses(1), accepts(2), accepts(3)].concat(),
        [wish(2, 4, 1), vec![3, 0, 1, 0, 1], all.clone()].concat(),
        [wish(2, 4, 1), all, vec![5, 1, 1], vec![6, 0xff, 0xff, 1]].concat(),
        [wish(4, 3, 0), wish(0, 4, 0), vec![7, 3, 3, 1], wish(1, 4, 0)].concat(),
    ]
}

fn sync_scripts() -> Vec<Vec<u8>> {
    // End; then hello (peer, place), marks (peer, own, seen, lease, places, changes before and after sealing), messages.
    let hello = |seen: u8| vec![0, 0, seen, 1];
    let mark = |own: u8, seen: u8, lease: u8| vec![2, 0, own, 0, seen, 0, lease, 0, 0, 0, 0, 0, 1];
    let forged = |own: u8| vec![2, 0, own, 0, 0, 0, 0, 0, 0, 0, 1, 0, 60, 0xff, 0, 1];
    let send = |end: u8| vec![5, 0, end, 1];
    let stream = [hello(0), mark(8, 4, 0), send(1), send(9), mark(8, 16, 0), send(3)].concat();
    let back =
        [hello(0), mark(8, 100, 0), mark(4, 0, 0), mark(8, 4, 100), vec![6, 0, 1, 1], send(1)].concat();
    let bad = [hello(9), forged(3), mark(1, 1, 1), vec![3, 0, 0, 1], vec![4, 0, 2, 0, 5, 6, 0, 1]].concat();
    let mut seeds = Vec::new();
    for end in [0, 1] {
        for script in [&stream, &back, &bad] {
            seeds.push([&[end], script.as_slice()].concat());
        }
    }
    seeds
}
