//! Times dske's arithmetic beside other libraries' and prints a table: GB/s of secret or message, and the ratio.

mod isal;
mod race;
mod texts;

use std::hint::black_box;

use dske_protocol::{pad::TagKey, sharing::Scheme, without_gfni};
use polyval::universal_hash::UniversalHash;

use crate::{
    isal::{Function, Matrix},
    race::race,
    texts::Texts,
};

/// Schemes, by n and k.
const SCHEMES: [(u8, u8); 4] = [(3, 2), (5, 3), (9, 5), (20, 10)];

/// Lengths of a secret, in bytes.
const SECRET_BYTES: [usize; 2] = [16 << 10, 1 << 20];

/// Lengths of a message, in bytes.
const MESSAGE_BYTES: [usize; 5] = [64, 1 << 10, 2 << 10, 16 << 10, 1 << 20];

fn main() {
    let function = match std::env::args().skip(1).collect::<Vec<_>>().join(" ").as_str() {
        "" => Function::Best,
        "--kernel avx2" => {
            without_gfni::choose();
            Function::Avx2
        }
        other => {
            eprintln!("what is {other}? There is nothing but --kernel avx2");
            std::process::exit(2);
        }
    };
    println!("{:<52}{:>12}{:>12}{:>8}", "GB/s, one core", "dske", "other", "ratio");
    for len in SECRET_BYTES {
        for (n, k) in SCHEMES {
            sharing(function, n, k, len);
        }
    }
    if function != Function::Best {
        return;
    }
    shamir();
    for len in MESSAGE_BYTES {
        tags(len);
    }
}

fn row(name: &str, bytes: usize, (ours, other): (f64, f64)) {
    // A length is far below what a double counts exactly.
    let speed = |seconds: f64| bytes as f64 / seconds / 1e9;
    println!("{name:<52}{:>12.2}{:>12.2}{:>7.2}x", speed(ours), speed(other), other / ours);
}

/// What a sender and a receiver compute, against as many rows of ISA-L over as many inputs. ISA-L's outputs are plain
/// shares, dske's are added onto the pads of their hubs.
fn sharing(function: Function, n: u8, k: u8, len: usize) {
    let (scheme, inputs, outputs) =
        (Scheme::new(n, k).expect("a scheme"), usize::from(k), usize::from(n - k));
    let (mut mine, mut theirs) = (Texts::new(usize::from(n) + 1, len), Texts::new(usize::from(n) + 1, len));
    let (first, mut rest) = mine.split(inputs);
    let (sources, mut targets) = theirs.split(inputs);
    let (secret, rest) = rest.split_first_mut().expect("one more than n");
    let name = |what: &str| format!("{what}, ({n},{k}), {} KiB, ISA-L", len >> 10);

    let mut all = Matrix::new(function, inputs, outputs + 1);
    let result = race(
        || scheme.split(black_box(&first), rest, secret).expect("a valid call"),
        || all.apply(black_box(&sources), &mut targets),
    );
    row(&name("split"), len, result);

    let mut one = Matrix::new(function, inputs, 1);
    for (what, positions) in [("first k", (0..k)), ("last k", (n - k..n))] {
        let positions: Vec<u8> = positions.collect();
        let result = race(
            || scheme.reconstruct(&positions, black_box(&first), secret).expect("a valid call"),
            || one.apply(black_box(&sources), &mut targets[..1]),
        );
        row(&name(&format!("secret from the {what}")), len, result);
    }
}

/// A crate for Shamir's scheme, which draws its own polynomial.
fn shamir() {
    let (n, k, len) = (9, 5, 16 << 10);
    let scheme = Scheme::new(n, k).expect("a scheme");
    let mut texts = Texts::new(usize::from(n) + 1, len);
    let (first, mut rest) = texts.split(usize::from(k));
    let (secret, rest) = rest.split_first_mut().expect("one more than n");
    let dealer = blahaj::Sharks(k);
    let text = first[0].to_vec();
    let result = race(
        || scheme.split(black_box(&first), rest, secret).expect("a valid call"),
        || {
            black_box(dealer.dealer(black_box(&text)).take(usize::from(n)).collect::<Vec<_>>());
        },
    );
    row("split, (9,5), 16 KiB, blahaj", len, result);
}

/// Tags of one message under a fresh key each.
fn tags(len: usize) {
    let mut texts = Texts::new(1, len);
    let (message, _) = texts.split(1);
    let message = message[0];
    let ours = || {
        black_box(TagKey::new(black_box([7; 32])).tag(&[], black_box(message)));
    };
    let polyval = || {
        let mut hash = polyval::Polyval::new(&black_box([7; 16]).into());
        hash.update_padded(black_box(message));
        black_box(hash.finalize());
    };
    let ghash = || {
        let mut hash = ghash::GHash::new(&black_box([7; 16]).into());
        hash.update_padded(black_box(message));
        black_box(hash.finalize());
    };
    row(&format!("tag, {len} bytes, polyval"), len, race(ours, polyval));
    row(&format!("tag, {len} bytes, ghash"), len, race(ours, ghash));
}
