//! Every committed input of every fuzz target, and every seed, runs through its target.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use dske_hostile::{
    alloc::{self, Counting},
    seeds,
    targets::{self, Reached, TARGETS},
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut paths: Vec<PathBuf> =
        fs::read_dir(&dir).expect("a corpus").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let input = |path: PathBuf| (path.display().to_string(), fs::read(&path).expect("an input"));
    paths.into_iter().map(input).collect()
}

#[test]
fn every_input_of_every_corpus_is_borne() {
    let mut found = Vec::new();
    for target in TARGETS {
        let seeds = seeds::of(target.name).into_iter().enumerate();
        let mut inputs: Vec<_> = seeds.map(|(number, seed)| (format!("seed {number}"), seed)).collect();
        assert!(!inputs.is_empty(), "{} has no seeds", target.name);
        inputs.extend(corpus(target.name));
        for (name, input) in inputs {
            let run = catch_unwind(AssertUnwindSafe(|| (target.run)(&input)));
            if run.is_err() {
                found.push(format!("{}: {name}", target.name));
            }
        }
    }
    assert!(found.is_empty(), "what went wrong stands above; inputs: {found:#?}");
}

#[test]
fn the_count_of_allocations_is_really_kept() {
    let (held, peak) = alloc::peak_of(|| vec![0u8; 1 << 20]);
    assert!(peak >= held.len());
    assert!(catch_unwind(|| alloc::bounded(b"short", || vec![0u8; 8 << 20])).is_err());
}

#[test]
fn seeds_reach_what_they_are_for() {
    let decoded = seeds::of("wire").iter().filter(|seed| dske_node::fuzzing::request(seed)).count();
    assert!(decoded >= 22, "one request of each kind, and of what clients say to each other each way");
    let answers = seeds::of("wire").iter().filter(|seed| dske_node::fuzzing::response(seed)).count();
    assert!(answers >= 5, "one response of each kind");
    assert!(
        seeds::of("control").iter().filter(|seed| dske_node::fuzzing::control_request(seed)).count() >= 9
    );
    let served: Vec<_> = seeds::of("socket").iter().map(|seed| targets::socket::socket(seed)).collect();
    assert!(served.iter().any(|served| served.keys >= 6), "a pool is emptied: {served:?}");
    assert!(served.iter().any(|served| served.answers >= 8 && served.failures <= 2), "streams: {served:?}");
    for machine in ["hub", "receiver", "rounds", "identity", "sender", "sync"] {
        let reached: Vec<Reached> =
            seeds::of(machine).iter().map(|seed| targets::reached(machine, seed)).collect();
        assert!(reached.iter().any(|reached| reached.accepted > 0), "{machine}: {reached:?}");
        assert!(reached.iter().any(|reached| reached.refused > 0), "{machine}: {reached:?}");
        if machine != "sender" {
            assert!(reached.iter().any(|reached| reached.burned > 0), "{machine}: {reached:?}");
        }
        if matches!(machine, "hub" | "receiver" | "rounds") {
            assert!(reached.iter().any(|reached| reached.forged_blocks > 0), "{machine}: {reached:?}");
        }
    }
}

#[test]
fn seeds_of_rounds_come_to_their_ends() {
    let reached: Vec<Reached> =
        seeds::of("rounds").iter().map(|seed| targets::reached("rounds", seed)).collect();
    let some = |what: &str, is: fn(&Reached) -> bool| {
        assert!(reached.iter().any(is), "no seed reaches {what}: {reached:?}");
    };
    some("a session and all of its rounds", |reached| reached.sessions == 1 && reached.rounds == 3);
    some("a round in which liars are named at both ends", |reached| reached.rounds > 0 && reached.named >= 4);
    some("a session that is lost and another", |reached| reached.lost > 0 && reached.rounds > 0);
    some("a round that fails", |reached| reached.sessions > 0 && reached.refused > 0);
}
