//! Throughput of the share and tag arithmetic, per byte of secret.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dske_protocol::{
    key_check::KeyCheck,
    pad::TagKey,
    reconstruct::{WorkBound, reconstruct},
    sharing::Scheme,
    tag::KeyTag,
};
use rand::{SeedableRng, rngs::StdRng};

/// The schemes of the paper's evaluation (§5) and their neighbours.
const SCHEMES: [(u8, u8); 4] = [(3, 2), (5, 3), (9, 5), (20, 10)];

/// Lengths of a secret, in bytes.
const LENGTHS: [usize; 4] = [64, 1 << 10, 16 << 10, 1 << 20];

/// Bytes without meaning, none of them special to the arithmetic.
fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 167 + seed * 59) % 251).to_le_bytes()[0]).collect()
}

fn all_shares(scheme: &Scheme, len: usize) -> Vec<Vec<u8>> {
    let k = usize::from(scheme.k());
    let mut shares: Vec<Vec<u8>> = (0..k).map(|seed| bytes(len, seed)).collect();
    let mut rest = vec![vec![0; len]; usize::from(scheme.n()) - k];
    let first: Vec<&[u8]> = shares.iter().map(Vec::as_slice).collect();
    let mut outputs: Vec<&mut [u8]> = rest.iter_mut().map(Vec::as_mut_slice).collect();
    scheme.derive_onto(&first, &mut outputs).expect("a valid call");
    shares.extend(rest);
    shares
}

fn sharing(criterion: &mut Criterion) {
    for (n, k) in SCHEMES {
        let scheme = Scheme::new(n, k).expect("a scheme");
        let mut group = criterion.benchmark_group(format!("sharing ({n},{k})"));
        for len in LENGTHS {
            let mut shares = all_shares(&scheme, len);
            let mut secret = vec![0; len];
            group.throughput(Throughput::Bytes(len as u64));

            let (first, rest) = shares.split_at_mut(usize::from(k));
            let first: Vec<&[u8]> = first.iter().map(Vec::as_slice).collect();
            let mut outputs: Vec<&mut [u8]> = rest.iter_mut().map(Vec::as_mut_slice).collect();
            group.bench_function(BenchmarkId::new("split", len), |bencher| {
                bencher.iter(|| scheme.split(black_box(&first), &mut outputs, black_box(&mut secret)));
            });
            group.bench_function(BenchmarkId::new("reconstruct from the first k", len), |bencher| {
                let positions: Vec<u8> = (0..k).collect();
                bencher.iter(|| scheme.reconstruct(&positions, black_box(&first), black_box(&mut secret)));
            });

            let last: Vec<u8> = (n - k..n).collect();
            let given: Vec<&[u8]> = last.iter().map(|&i| shares[usize::from(i)].as_slice()).collect();
            group.bench_function(BenchmarkId::new("reconstruct from the last k", len), |bencher| {
                bencher.iter(|| scheme.reconstruct(&last, black_box(&given), black_box(&mut secret)));
            });
        }
        group.finish();
    }
}

fn tag(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tag");
    for len in LENGTHS {
        let message = bytes(len, 1);
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::from_parameter(len), |bencher| {
            bencher.iter(|| TagKey::new(black_box([7; 32])).tag(b"", black_box(&message)));
        });
    }
    group.finish();
}

/// From nine shares to the secret, with the key tag and the comparison of all shares, by how many of them are false.
fn false_shares(criterion: &mut Criterion) {
    let scheme = Scheme::new(9, 5).expect("a scheme");
    let mut group = criterion.benchmark_group("nine shares, k = 5");
    for len in [1 << 10, 16 << 10, 1 << 20] {
        let honest = all_shares(&scheme, len);
        let first: Vec<&[u8]> = honest.iter().take(5).map(Vec::as_slice).collect();
        let mut secret = vec![0; len];
        scheme.secret_onto(&first, &mut secret).expect("a valid call");
        let (u, key) = secret.split_first_chunk().expect("it begins with u");
        let check = KeyCheck::new(b"context".to_vec(), KeyTag::of(u, b"context", key));
        group.throughput(Throughput::Bytes(len as u64));
        // Liars among the first k and behind them, who replace all of their shares, or one byte each.
        for (liars, everywhere) in
            [(0, true), (1, true), (2, true), (2, false), (3, true), (3, false), (4, true)]
        {
            let mut shares = honest.clone();
            for &liar in [1, 6, 3, 7].iter().take(liars) {
                if everywhere {
                    shares[liar] = bytes(len, 100 + liar);
                } else {
                    shares[liar][len * liar / 9] ^= 1;
                }
            }
            let given: Vec<(u8, &[u8])> = (0..9).zip(shares.iter().map(Vec::as_slice)).collect();
            let bound = WorkBound::default();
            let mut rng = StdRng::seed_from_u64(1);
            let name = format!("{liars} false{}", if everywhere { "" } else { ", one byte each" });
            group.bench_function(BenchmarkId::new(name, len), |bencher| {
                bencher.iter(|| reconstruct(&scheme, &given, &check, &bound, &mut rng, &|| false));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, sharing, tag, false_shares);
criterion_main!(benches);
