//! What the targets in `tests/hostile` need of this crate's inside: the decoders of the wire and of the control
//! socket, and the whole of the control socket's input on a node without a network.
//!
//! Each decoder stops at once where something decodes that has another encoding. Only behind the feature
//! `fuzzing`; nothing here is meant for anybody else.

mod keys;
mod socket;

use dske_protocol::{
    codec::{self, Blob},
    ids::{BlockId, NodeId, TableId},
    message::{Nonce, Notice, NoticeOutcome},
    negotiation::NEGOTIATION_BYTES_MAX,
    refusal::{AbortReason, Refusal},
    sync::{HelloBack, SyncHello},
};
use futures::{executor::block_on, io::Cursor};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    config::Role,
    control::{self, frame},
    network::{
        Directory,
        wire::{self, ANNOUNCEMENT_BYTES_MAX, Announcement, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX},
    },
};

pub use socket::{Served, Socket, reply_seeds, socket_seeds};

/// Reads what a peer asks, as the codec does; whether it decodes.
pub fn request(bytes: &[u8]) -> bool {
    let Some(request) = exchanged::<wire::Request>(bytes, REQUEST_BYTES_MAX) else { return false };
    assert!(request.sealed().map(<[u8]>::len).sum::<usize>() <= bytes.len());
    // What is within the limits is worked on: of a link's messages no more than a negotiation can need.
    if let (true, wire::Request::Link(_) | wire::Request::Relay { .. } | wire::Request::Relayed { .. }) =
        (request.is_within_limits(), &request)
    {
        assert!(request.bytes() <= NEGOTIATION_BYTES_MAX);
    }
    true
}

/// Reads what a peer answers, as the codec does; whether it decodes.
pub fn response(bytes: &[u8]) -> bool {
    exchanged::<wire::Response>(bytes, RESPONSE_BYTES_MAX).is_some()
}

fn exchanged<T: Serialize + DeserializeOwned>(bytes: &[u8], bytes_max: usize) -> Option<T> {
    let value: T = block_on(wire::read(&mut Cursor::new(bytes), bytes_max)).ok()?;
    let mut again = Cursor::new(Vec::new());
    assert!(block_on(wire::write(&mut again, &value)).is_ok(), "what was read can be written");
    let again = again.into_inner();
    assert_eq!(bytes.get(..again.len()), Some(again.as_slice()), "another encoding of the same value");
    Some(value)
}

/// Reads an announcement and has the directory hear it; whether it decodes.
pub fn announcement(bytes: &[u8]) -> bool {
    let Some(announcement) = canonical::<Announcement>(bytes, ANNOUNCEMENT_BYTES_MAX) else { return false };
    let directory = Directory::default();
    directory.hear(announcement.clone(), None, std::time::Instant::now());
    assert!(directory.addresses(&announcement.node).len() <= wire::ADDRESSES_MAX);
    true
}

/// Reads a request on the control socket; whether it decodes.
pub fn control_request(bytes: &[u8]) -> bool {
    framed::<control::Request>(bytes, frame::REQUEST_BYTES_MAX)
}

/// Reads a reply on the control socket; whether it decodes.
pub fn control_reply(bytes: &[u8]) -> bool {
    framed::<control::Reply>(bytes, frame::REPLY_BYTES_MAX)
}

fn framed<T: Serialize + DeserializeOwned>(bytes: &[u8], bytes_max: usize) -> bool {
    let mut stream = bytes;
    let Ok(Some(value)) = block_on(frame::read::<T>(&mut stream, bytes_max)) else { return false };
    let mut again = Vec::new();
    assert!(block_on(frame::write(&mut again, &value)).is_ok(), "what was read can be written");
    assert_eq!(bytes.get(..again.len()), Some(again.as_slice()), "another encoding of the same value");
    true
}

fn canonical<T: Serialize + DeserializeOwned>(bytes: &[u8], bytes_max: usize) -> Option<T> {
    let value: T = codec::decode(bytes, bytes_max).ok()?;
    assert_eq!(codec::encode(&value).as_deref(), Ok(bytes), "another encoding of the same value");
    Some(value)
}

fn frame_of<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to memory fails only for what has no encoding, and every type here has one.
    let _ = block_on(frame::write(&mut bytes, value));
    bytes
}

fn nonce() -> Nonce {
    codec::decode(&[3; 16], 16).unwrap_or_else(|_| unreachable!("sixteen bytes are a nonce"))
}

/// Everything that one client says to another.
fn links(sealed: &[u8]) -> Vec<wire::LinkMessage> {
    use wire::LinkMessage;
    let (blob, block) = (|| Blob(sealed.to_vec()), BlockId::new([1; 16]));
    let outcome = NoticeOutcome::Aborted(AbortReason::NoChoice { received: 3 });
    vec![
        LinkMessage::Offer(blob()),
        LinkMessage::Choice(blob()),
        LinkMessage::Confirmation(blob()),
        LinkMessage::SessionLost(block),
        LinkMessage::Notice(Notice { block, outcome }),
    ]
}

/// Requests, responses and an announcement to begin with; `sealed` stands in them.
pub fn wire_seeds(sealed: &[u8]) -> Vec<Vec<u8>> {
    let blob = || Blob(sealed.to_vec());
    let notice = |outcome| Notice { block: BlockId::new([1; 16]), outcome };
    let requests = [
        wire::Request::Shares(vec![blob(), blob()]),
        wire::Request::Instructions(vec![blob()]),
        wire::Request::Identity(blob()),
        wire::Request::Hello,
        wire::Request::Notices(vec![
            notice(NoticeOutcome::Validated { shares: 5, false_positions: vec![3] }),
            notice(NoticeOutcome::Aborted(AbortReason::TooFewShares { received: 1, k: 3, n: 5 })),
        ]),
    ];
    let table = TableId::new([1; 16]);
    let (hello, back) = (SyncHello { table, nonce: nonce() }, HelloBack { table, nonce: nonce(), keys: 64 });
    let requests = requests.into_iter().chain([wire::Request::SyncHello(hello), wire::Request::Mark(blob())]);
    let to = NodeId::new([2; 32]);
    let links = links(sealed);
    let relayed = links.clone().into_iter().flat_map(|message| {
        let relay = wire::Request::Relay { to, message: message.clone() };
        [relay, wire::Request::Relayed { from: to, message }]
    });
    let requests = requests.chain(links.into_iter().map(wire::Request::Link)).chain(relayed);
    let responses = [
        wire::Response::SyncHello(Ok(back)),
        wire::Response::Mark(Ok(blob())),
        wire::Response::Results(vec![Ok(()), Err(Refusal::BadTag)]),
        wire::Response::Identity(Ok(blob())),
        wire::Response::Identity(Err(Refusal::UnknownSender)),
        wire::Response::Hello(vec![TableId::new([1; 16])]),
        wire::Response::Done,
    ];
    let announcement = Announcement {
        node: NodeId::new([1; 32]),
        name: "bob".parse().unwrap_or_else(|_| unreachable!("it is a name")),
        roles: vec![Role::Hub, Role::Client],
        addresses: vec!["/ip4/127.0.0.1/tcp/7001".to_owned()],
        sequence: 7,
    };
    let mut seeds: Vec<Vec<u8>> = requests.map(|request| frame_of(&request)).collect();
    seeds.extend(responses.iter().map(frame_of));
    seeds.extend(codec::encode(&announcement));
    seeds
}
