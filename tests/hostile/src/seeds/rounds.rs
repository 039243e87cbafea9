//! Scripts of the target `rounds`: whole sessions between two ends, and what may come between.

/// Everything that waits goes its way.
const ALL: u8 = 7;
/// What the hubs, the link and the receiver's notices bring alone.
const HUBS: u8 = 1;
const LINK: u8 = 2;
const NOTICES: u8 = 4;

type Script = Vec<u8>;

/// A negotiation key for so many rounds, agreed at both ends. Its requests are the first n.
fn session(n: u8, k: u8, rounds: u8) -> Script {
    [&[0, 1, n - 1, k - 1, rounds - 1, 1], flow(ALL).as_slice()].concat()
}

/// The requests of a round of two keys to the hubs; `away`: those that cannot be reached.
fn round_without(away: u8) -> Script {
    vec![1, 0, 2, 16, away, 10, 1]
}

fn round() -> Script {
    round_without(0)
}

/// A hub passes a request on, with a lie about it: kind of lie, what is said instead, whose it is.
fn lie(at: u8, how: u8, with: u8, other: u8) -> Script {
    vec![2, at, other, how, with, 1, 0, 0, 1]
}

fn truth(at: u8) -> Script {
    lie(at, 0, 0, 0)
}

/// The link brings something that was said: under the names of another (counted from 1), from somebody else, as
/// something else, over and over, and changed.
fn say(at: u8, names_of: u8, from: u8, route: u8, times: u8, change: &[u8]) -> Script {
    [&[6, at, names_of, from, route, times], change, &[1]].concat()
}

fn repeat(at: u8) -> Script {
    say(at, 0, 0, 0, 0, &[0])
}

/// A byte of the body of what was said is wrong.
fn forged(at: u8, times: u8) -> Script {
    // One change: a byte in the names, the body or the tag gets another value.
    say(at, 0, 0, 0, times, &[1, 0, 60, 0xff])
}

fn cut(at: u8) -> Script {
    say(at, 0, 0, 0, 0, &[1, 5, 30])
}

fn time(ms: u16) -> Script {
    [&[12], ms.to_le_bytes().as_slice(), &[1]].concat()
}

fn flow(what: u8) -> Script {
    vec![15, what, 1]
}

/// Something goes wrong: at the sender's pads (0 minting, 1 records), the receiver's (2 records, 3 holding).
fn trouble(what: u8) -> Script {
    vec![13, what, 1]
}

/// Somebody says that the first session is lost: who is said to say so, and over which way.
fn lost(from: u8, way: u8) -> Script {
    vec![11, 0, 0, 1, from, way, 1]
}

/// An end starts anew.
fn restart(receiver: bool) -> Script {
    vec![14, u8::from(receiver), 1]
}

/// See the head of the file.
pub(super) fn scripts() -> Vec<Script> {
    let begun = || [session(4, 2, 3), round()].concat();
    let offered = || [begun(), flow(HUBS)].concat();
    let script = |parts: &[Script]| parts.concat();
    // Of four hubs: the requests of the session are 0..4, those of the first round 4..8, of the second 8..12.
    let mut scripts = vec![
        script(&[begun(), flow(ALL), round(), flow(ALL), round(), flow(ALL), round()]),
        script(&[session(3, 2, 1), round(), flow(ALL), round()]),
        script(&[session(4, 3, 2), round_without(8), flow(ALL), round_without(14), round(), flow(ALL)]),
        // One hub is silent, another speaks late.
        script(&[begun(), truth(4), truth(5), truth(6), time(60), flow(LINK), truth(7), flow(ALL)]),
        // Fewer than k speak; then hubs refuse.
        script(&[begun(), truth(4), time(60), time(10_000)]),
        script(&[begun(), vec![5, 4, 0, 1], vec![5, 5, 1, 1], vec![5, 6, 2, 1], flow(ALL)]),
        // Two of four lie about their shares, two collude in a group of their own.
        script(&[begun(), lie(4, 1, 40, 0), lie(5, 1, 41, 0), flow(ALL)]),
        script(&[begun(), lie(4, 6, 3, 0), lie(5, 6, 3, 0), flow(ALL)]),
        // Three do: no key.
        script(&[begun(), lie(4, 1, 1, 0), lie(5, 1, 2, 0), lie(6, 1, 3, 0), flow(ALL)]),
        // Lost, cut, forged, repeated, late, of another, as another message.
        script(&[
            offered(),
            cut(0),
            forged(0, 0),
            say(0, 0, 3, 0, 0, &[0]),
            time(1000),
            repeat(1),
            repeat(0),
            cut(2),
            say(2, 0, 0, 2, 0, &[0]),
            repeat(2),
            time(700),
            repeat(2),
            repeat(3),
            forged(4, 0),
            repeat(4),
            repeat(4),
            repeat(0),
            repeat(2),
        ]),
        // More forged offers, choices and confirmations than a round bears.
        script(&[offered(), forged(0, 0xff), flow(ALL)]),
        script(&[offered(), repeat(0), forged(1, 0xff), flow(ALL)]),
        script(&[offered(), repeat(0), repeat(1), forged(2, 0xff), flow(ALL)]),
        // Two rounds at once, whose shares, names and messages are mixed up.
        script(&[begun(), round(), lie(4, 4, 0, 8), lie(9, 5, 0, 5), lie(6, 2, 1, 0), flow(ALL)]),
        script(&[
            offered(),
            round(),
            flow(HUBS),
            say(0, 2, 0, 0, 0, &[0]),
            say(1, 1, 0, 0, 0, &[0]),
            flow(ALL),
        ]),
        script(&[offered(), repeat(0), round(), flow(HUBS), say(1, 3, 0, 0, 0, &[0]), repeat(2), flow(ALL)]),
        // The receiver has forgotten the session; with a session on top that it knows.
        script(&[session(4, 2, 3), restart(true), round(), flow(ALL), session(4, 2, 2), round(), flow(ALL)]),
        script(&[offered(), restart(true), flow(ALL), time(10_000)]),
        script(&[offered(), repeat(0), restart(false), flow(ALL)]),
        // Somebody makes up that a session is lost, that a round ended.
        script(&[offered(), lost(1, 1), lost(1, 2), lost(1, 3), flow(ALL), round()]),
        script(&[offered(), repeat(0), lost(1, 1), lost(1, 2), lost(1, 3), flow(ALL)]),
        script(&[offered(), lost(1, 0), lost(1, 1), lost(1, 1), lost(2, 2), lost(1, 5), flow(ALL), round()]),
        script(&[begun(), vec![10, 1, 0, 4, 2, 4, 1, 0, 1], flow(HUBS | LINK), flow(NOTICES)]),
        script(&[begun(), vec![10, 1, 0, 4, 1, 0, 1], vec![10, 1, 0, 4, 1, 1, 1], flow(ALL)]),
        script(&[
            begun(),
            vec![10, 1, 0, 4, 1, 1, 1],
            vec![10, 1, 0, 4, 1, 2, 1],
            vec![10, 1, 0, 4, 1, 3, 1],
        ]),
        // A liar is heard first; the others come one by one, each into a larger offer.
        script(&[
            begun(),
            lie(4, 1, 40, 0),
            truth(5),
            time(60),
            flow(LINK),
            truth(6),
            time(60),
            flow(LINK),
            truth(7),
            flow(ALL),
        ]),
        // Pads and records fail: before the round, at its end here and there.
        script(&[session(4, 2, 2), trouble(0), round(), round(), flow(ALL)]),
        script(&[offered(), repeat(0), trouble(2), flow(ALL), round(), flow(ALL)]),
        script(&[offered(), repeat(0), repeat(1), trouble(1), repeat(2), flow(ALL)]),
        script(&[begun(), trouble(3), truth(4), trouble(2), truth(5), flow(ALL)]),
        // Answers of the pads come one by one.
        script(&[
            session(4, 2, 2),
            vec![1, 0, 2, 16, 0, 10, 0],
            vec![13, 4, 0, 0],
            vec![2, 4, 0, 0, 0, 1, 0, 0, 0],
            vec![2, 5, 0, 0, 0, 1, 0, 0, 0],
            vec![13, 5, 1, 0],
            vec![13, 5, 0, 0],
            flow(ALL),
        ]),
        // A message of a hub that is changed behind its tag: byte 400, which is one of its share.
        script(&[begun(), vec![2, 4, 0, 0, 0, 1, 0, 1, 0, 0x90, 1, 0xff, 1], flow(ALL)]),
        // General agreements on keys under the same roof; an excluded hub; made-up messages.
        script(&[vec![0, 0, 3, 1, 7, 1], flow(ALL), session(4, 2, 1), vec![14, 2, 1, 1], round(), flow(ALL)]),
        script(&[offered(), vec![9, 1, 0, 3, 0, 1, 2, 3, 1], vec![9, 0, 1, 0, 0, 1], flow(ALL)]),
        // No confirmation awaited: the receiver may not have the session.
        script(&[vec![0, 7, 3, 1, 1, 1], time(20_000), round(), flow(ALL)]),
    ];
    // Each kind of lie, of one hub that speaks first.
    for how in 1..12 {
        scripts.push(script(&[
            begun(),
            lie(4, how, 1, 0),
            flow(ALL),
            round(),
            lie(11, how, 2, 5),
            flow(ALL),
        ]));
    }
    scripts
}
