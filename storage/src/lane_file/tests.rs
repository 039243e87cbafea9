//! One lane on a simulated device.

use super::*;
use crate::{
    lane_checks::write_pads,
    sim::{Faults, Keep, SimDisk},
};
use std::sync::atomic::Ordering;

const TABLE: TableId = TableId::new([6; 16]);
/// Three blocks and a part of a fourth.
const BYTES: u64 = 3 * BLOCK_BYTES + 1000;

fn path() -> &'static Path {
    Path::new("table/up.lane")
}

/// What stands at a range of the lane; no two blocks are alike, and no byte is zero.
fn pad(start: u64, end: u64) -> Vec<u8> {
    (start..end).map(|at| (at % 251).to_le_bytes()[0].wrapping_mul(7) | 1).collect()
}

fn device(bytes: u64) -> SimDisk {
    let disk = SimDisk::default();
    let file = disk.create(path()).expect("a file");
    file.allocate(file_bytes(bytes)).expect("space");
    LaneFile::format(&*file, TABLE, Lane::Up, bytes).expect("a header");
    file.sync().expect("synced");
    disk.sync_dir(Path::new("table")).expect("synced");
    disk
}

fn padded() -> SimDisk {
    let disk = device(BYTES);
    let file = disk.open(path()).expect("it is there");
    write_pads(&*file, BYTES, 0, &pad(0, BYTES)).expect("pads");
    file.sync().expect("synced");
    disk
}

fn open(disk: &SimDisk, bytes: u64) -> LaneFile {
    let (lane, problem) = LaneFile::open(disk, path(), TABLE, Lane::Up, bytes).expect("it opens");
    assert_eq!(problem, None);
    lane
}

fn read(lane: &LaneFile, offset: u64, bytes: u64) -> Option<Vec<u8>> {
    lane.read(offset, bytes).expect("sound").map(|run| run.to_vec())
}

/// What is wrong with a lane whose header says this.
fn problem(change: impl FnOnce(&mut LaneHeader)) -> Option<LaneProblem> {
    let disk = device(BYTES);
    let mut header = LaneHeader::new(TABLE, Lane::Up, BYTES);
    change(&mut header);
    let file = disk.open(path()).expect("it is there");
    (0..2).for_each(|_| header.write_next(&*file).expect("written"));
    LaneFile::open(&disk, path(), TABLE, Lane::Up, BYTES).expect("it opens").1
}

#[test]
fn a_header_that_cannot_be_right_is_told() {
    assert_eq!(problem(|_| {}), None);
    assert_eq!(problem(|header| (header.mark, header.floor) = (BYTES, BYTES)), None, "used up");
    assert_eq!(problem(|header| header.mark = BYTES + 1), Some(LaneProblem::Marks));
    assert_eq!(problem(|header| (header.mark, header.floor) = (10, 11)), Some(LaneProblem::Marks));
    assert_eq!(problem(|header| header.lane = 1), Some(LaneProblem::Foreign));
    assert_eq!(problem(|header| header.lane_bytes += 1), Some(LaneProblem::Foreign));
    assert_eq!(problem(|header| header.table = TableId::new([7; 16])), Some(LaneProblem::Foreign));
    let disk = device(BYTES);
    disk.open(path()).expect("it is there").write_at(&[9; 8192], 0).expect("written");
    let (_, problem) = LaneFile::open(&disk, path(), TABLE, Lane::Up, BYTES).expect("it opens");
    assert_eq!(problem, Some(LaneProblem::NoHeader));
}

#[test]
fn of_a_lane_that_is_lost_nothing_is_read_and_nothing_is_written_to_it() {
    let opened = |disk: &SimDisk, bytes| {
        LaneFile::open(disk, path(), TABLE, Lane::Up, bytes).expect("no failure of the disk")
    };
    let headless = padded();
    headless.open(path()).expect("it is there").write_at(&[9; 8192], 0).expect("written");
    let there =
        |disk: &SimDisk| disk.open(path()).ok().map(|file| file.read(0, 9000).expect("read").to_vec());
    let short = LaneProblem::Short { bytes: file_bytes(BYTES), expected: file_bytes(BYTES + 8) };
    for (disk, bytes, expected) in [
        (padded(), BYTES, None),
        (padded(), BYTES + 8, Some(short)),
        (SimDisk::default(), BYTES, Some(LaneProblem::Missing)),
        (headless, BYTES, Some(LaneProblem::NoHeader)),
    ] {
        let (lane, problem) = opened(&disk, bytes);
        assert_eq!(problem, expected);
        let Some(problem) = problem else { continue };
        assert!(problem.is_lost());
        let before = there(&disk);
        assert!(lane.read(0, 40).is_err() && lane.advance(4096, Counts::default()).is_err());
        assert_eq!(lane.erase(&[(0, 40)], true), Ok(None), "there is nothing that could be");
        assert_eq!(there(&disk), before);
    }
}

#[test]
fn a_run_is_read_from_wherever_it_lies() {
    let lane = open(&padded(), BYTES);
    for (offset, bytes) in [(0, BYTES), (5000, 100), (4090, 20), (4096, 4096), (100, 9000), (BYTES - 1, 1)] {
        assert_eq!(read(&lane, offset, bytes), Some(pad(offset, offset + bytes)), "{bytes} at {offset}");
    }
    for (offset, bytes) in [(BYTES - 1, 2), (BYTES, 1), (3 * BYTES, 1)] {
        assert!(lane.read(offset, bytes).is_err(), "{bytes} at {offset}");
    }
}

#[test]
fn what_was_erased_is_not_read_and_what_is_beside_it_is() {
    let disk = padded();
    let lane = open(&disk, BYTES);
    lane.advance(BYTES, Counts::default()).expect("written");
    lane.erase(&[(100, 200), (4000, 8292), (BYTES - 50, BYTES)], false).expect("erased");
    for lane in [lane, open(&disk.crashed(Keep::Nothing, Arc::default()), BYTES)] {
        for (offset, bytes) in [(100, 100), (4096, 4096), (130, 16), (50, 100), (BYTES - 16, 16)] {
            assert_eq!(read(&lane, offset, bytes), None, "{bytes} at {offset}");
        }
        for (start, end) in [(0, 100), (200, 4000), (8292, BYTES - 50)] {
            assert_eq!(read(&lane, start, end - start), Some(pad(start, end)), "{start}..{end}");
        }
    }
}

#[test]
fn a_run_of_zeros_is_no_pad() {
    assert!(looks_erased(&[0; 16]) && !looks_erased(&[0; 15]) && !looks_erased(&[1; 16]));
    let among = |before, zeros| [vec![1; before], vec![0; zeros], vec![1; 40]].concat();
    assert!(looks_erased(&among(32, 32)) && looks_erased(&among(0, 32)));
    assert!(!looks_erased(&among(32, 31)) && !looks_erased(&among(16, 40)) && !looks_erased(&among(0, 16)));
}

#[test]
fn header_and_floor_follow_what_is_reserved_and_erased() {
    let disk = padded();
    let lane = open(&disk, BYTES);
    let counts = Counts { key: 9, ..Counts::default() };
    let marks = |lane: &LaneFile| {
        let header = lane.header();
        (header.mark_before, header.mark, header.floor)
    };
    lane.advance(6000, Counts::default()).expect("written");
    lane.advance(8000, counts).expect("written");
    lane.erase(&[(0, 5000), (8000, 8032)], false).expect("erased");
    assert_eq!((marks(&lane), lane.header().counts), ((6000, 8000, 5000), counts));
    lane.erase(&[(5000, 8000)], false).expect("erased");
    assert_eq!(marks(&lane), (6000, 8000, 8000), "not past the mark, which nobody has moved");
    let after = open(&disk.crashed(Keep::Nothing, Arc::default()), BYTES);
    assert_eq!(after.header(), lane.header());

    let receiver = open(&padded(), BYTES);
    receiver.erase(&[(300, 400)], true).expect("erased");
    assert_eq!(marks(&receiver), (400, 400, 0));
    receiver.erase(&[(0, 300)], true).expect("erased");
    assert_eq!(marks(&receiver), (400, 400, 400));
}

#[test]
fn a_block_that_the_disk_changed_is_an_error_also_once_a_part_of_it_is_erased() {
    let disk = padded();
    let file = disk.open(path()).expect("it is there");
    let lane = open(&disk, BYTES);
    file.write_at(&[0xff], DATA_OFFSET + 5000).expect("written");
    let damaged = |offset| {
        let Err(StoreError::Damaged { detail, .. }) = lane.read(offset, 40) else {
            panic!("{offset} reads as sound")
        };
        detail
    };
    let place = format!("byte {} of table/up.lane", DATA_OFFSET + 4096);
    assert!(damaged(4996).starts_with(&place) && damaged(8000).starts_with(&place));
    assert!(damaged(4080).starts_with(&place), "a run counts whole");
    assert!(read(&lane, 4000, 96).is_some() && read(&lane, 8192, 40).is_some());
    assert_eq!(lane.erase(&[(4096, 4200)], true), Ok(Some(DATA_OFFSET + 4096)), "it is told");
    assert!(damaged(8000).starts_with(&place));
    assert!(damaged(4096).starts_with(&place), "also where it reads as erased");
    assert_eq!(lane.erase(&[(0, 4096), (8192, 8200)], true), Ok(None), "that one alone");
}

#[test]
fn zeros_that_no_erasure_left_are_damage() {
    let disk = padded();
    let file = disk.open(path()).expect("it is there");
    let lane = open(&disk, BYTES);
    lane.erase(&[(0, 4096)], true).expect("erased");
    file.zero(DATA_OFFSET + 4096, 4096).expect("written");
    let wrong = |offset| matches!(lane.read(offset, 64), Err(StoreError::Damaged { what: "a pad", .. }));
    assert!(wrong(4096) && wrong(8000) && !wrong(0) && !wrong(8192));
    assert_eq!(read(&lane, 0, 64), None, "that was erased");
}

#[test]
fn damage_is_told_also_beside_a_block_in_whose_erasure_a_crash_came() {
    for (torn, changed) in [(0, 1), (1, 0)] {
        let disk = padded();
        let file = disk.open(path()).expect("it is there");
        write_entries(&*file, BYTES, torn, &[Entry { now: 5, next: 6 }]).expect("written");
        let lane = open(&disk, BYTES);
        assert!(read(&lane, 0, 8192).is_some(), "of the torn one alone nobody can say");
        file.write_at(&[0xff], DATA_OFFSET + changed * BLOCK_BYTES + 9).expect("written");
        assert!(matches!(lane.read(0, 8192), Err(StoreError::Damaged { .. })), "block {changed}");
    }
}

#[test]
fn no_checksum_is_left_of_what_is_gone() {
    for changed_by_the_disk in [false, true] {
        let disk = padded();
        let file = disk.open(path()).expect("it is there");
        let lane = open(&disk, BYTES);
        if changed_by_the_disk {
            file.write_at(&[0xff], DATA_OFFSET + 5000).expect("written");
        }
        lane.erase(&[(4096, 5000), (5000, 8192)], true).expect("erased");
        lane.erase(&[(8192, 8200)], true).expect("erased");
        let entries = read_entries(&*file, BYTES, 1, 2).expect("readable");
        assert_eq!(entries[0], Entry::default());
        let rest = [vec![0; 8], pad(8200, 12_288)].concat();
        assert_eq!(entries[1], Entry::settled(checksum(2, &rest)));
    }
}

#[test]
fn an_erasure_syncs_before_the_bytes_change_and_before_the_header_says_so() {
    let disk = padded();
    let lane = open(&disk, BYTES);
    let syncs_of = |start, end| {
        let before = disk.faults.syncs.load(Ordering::SeqCst);
        lane.erase(&[(start, end)], true).expect("erased");
        disk.faults.syncs.load(Ordering::SeqCst) - before
    };
    assert_eq!(syncs_of(100, 200), 3, "checksum, zeros, header");
    assert_eq!(syncs_of(100, 200), 2, "the checksum is there already");
    assert_eq!(syncs_of(4096, 8192), 2, "a whole block has none");
}

#[test]
fn a_crash_in_an_erasure_leaves_nothing_that_reads_as_damage() {
    for cut in 1..20 {
        for keep in [Keep::Nothing, Keep::All, Keep::Torn(60), Keep::Some(cut)] {
            let disk = padded();
            let lane = open(&disk, BYTES);
            disk.faults.cut_from.store(disk.faults.steps.load(Ordering::SeqCst) + cut, Ordering::SeqCst);
            let done = lane.erase(&[(100, 200), (4000, 4200)], true).is_ok();
            let lane = open(&disk.crashed(keep, Arc::default()), BYTES);
            for (start, end) in [(200, 4000), (4200, BYTES)] {
                assert_eq!(read(&lane, start, end - start), Some(pad(start, end)), "cut at {cut}");
            }
            if done {
                assert_eq!(read(&lane, 100, 100), None);
            }
            lane.erase(&[(100, 200), (4000, 4200)], true).expect("erased");
            assert_eq!((read(&lane, 100, 100), read(&lane, 4000, 200)), (None, None));
        }
    }
}

#[test]
fn an_erasure_that_a_crash_cut_off_goes_on_from_the_floor() {
    // The second begins below the floor, as one does that takes in all that is used; the third, after the crash, at it.
    for cut in 1..20 {
        for keep in [Keep::Nothing, Keep::All, Keep::Torn(60), Keep::Some(cut)] {
            let disk = padded();
            let lane = open(&disk, BYTES);
            lane.erase(&[(0, 4200)], true).expect("erased");
            disk.faults.cut_from.store(disk.faults.steps.load(Ordering::SeqCst) + cut, Ordering::SeqCst);
            let _ = lane.erase(&[(0, 8300)], true);
            let lane = open(&disk.crashed(keep, Arc::default()), BYTES);
            let floor = lane.header().floor;
            let damaged = lane.erase(&[(floor.min(8300), 8300)], true).expect("erased");
            assert_eq!(damaged, None, "cut at {cut}, floor {floor}");
            assert_eq!(read(&lane, 0, 8300), None);
            assert_eq!(read(&lane, 8300, BYTES - 8300), Some(pad(8300, BYTES)), "cut at {cut}");
            let entries = read_entries(&*lane.file, BYTES, 0, 3).expect("readable");
            assert_eq!(entries[..2], [Entry::default(); 2], "no checksum outlives its block: cut at {cut}");
            assert!(entries[2].is_settled(), "cut at {cut}");
        }
    }
}

#[test]
fn opening_settles_the_block_in_which_the_floor_lies_and_no_other() {
    let unsure = |index| Entry { now: 5, next: checksum(index, &pad(index * 4096, index * 4096 + 4096)) };
    for (floor, settled) in [(0, false), (4096, false), (5000, true), (8191, true), (8192, false)] {
        let disk = padded();
        let file = disk.open(path()).expect("it is there");
        let entries = [unsure(0), unsure(1), unsure(2)];
        write_entries(&*file, BYTES, 0, &entries).expect("written");
        let mut header = LaneHeader::new(TABLE, Lane::Up, BYTES);
        (header.mark, header.floor) = (BYTES, floor);
        (0..2).for_each(|_| header.write_next(&*file).expect("written"));
        file.sync().expect("synced");
        drop(open(&disk, BYTES));
        let after = disk.crashed(Keep::Nothing, Arc::default()).open(path()).expect("it is there");
        let middle = if settled { Entry::settled(unsure(1).next) } else { unsure(1) };
        let found = read_entries(&*after, BYTES, 0, 3).expect("readable");
        assert_eq!(found[..], [unsure(0), middle, unsure(2)], "floor at {floor}");
    }
}

#[test]
fn zeros_go_exactly_where_they_should_in_pieces() {
    let disk = SimDisk::default();
    let file = disk.create(Path::new("a")).expect("a file");
    let len = 5 * crate::disk::ZEROS_BYTES / 2;
    file.write_at(&vec![1; len + 20], 0).expect("written");
    file.zero(10, len as u64).expect("written");
    let mut bytes = vec![9; len + 20];
    file.read_at(&mut bytes, 0).expect("readable");
    let expected = [vec![1; 10], vec![0; len], vec![1; 10]].concat();
    assert!(bytes == expected);
}

#[test]
fn space_is_given_back_in_large_pieces_and_only_below_the_floor() {
    const PIECE: u64 = 16 << 20;
    const LONG: u64 = 2 * PIECE + 8192;
    let disk = device(LONG);
    let file = disk.open(path()).expect("it is there");
    write_pads(&*file, LONG, 2 * PIECE, &pad(0, 8192)).expect("pads");
    let lane = open(&disk, LONG);
    lane.advance(2 * PIECE, Counts::default()).expect("written");
    let punched = |disk: &SimDisk| disk.faults.punched.load(Ordering::SeqCst);
    lane.erase(&[(0, PIECE - 1), (PIECE, PIECE + 32)], false).expect("erased");
    assert_eq!(punched(&disk), 0, "a little less is not worth it");
    lane.erase(&[(PIECE - 1, PIECE)], false).expect("erased");
    assert_eq!(punched(&disk), PIECE + 32);
    lane.erase(&[(PIECE + 32, 2 * PIECE)], false).expect("erased");
    assert_eq!(punched(&disk), PIECE + 32, "less than a piece more");
    lane.advance(2 * PIECE + 4096, Counts::default()).expect("written");
    lane.erase(&[(2 * PIECE, 2 * PIECE + 4096)], false).expect("erased");
    assert_eq!(punched(&disk), 2 * PIECE + 4096);
    assert_eq!(file.len().expect("a length"), file_bytes(LONG));

    let disk = disk.crashed(Keep::Nothing, Arc::new(Faults::default()));
    let lane = open(&disk, LONG);
    assert_eq!(read(&lane, 2 * PIECE + 4096, 4096), Some(pad(4096, 8192)));
    lane.erase(&[(0, 32)], false).expect("erased");
    assert_eq!(punched(&disk), 0, "what was given back is not given back again");
}

/// Numbers that look random.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn of<T: Copy, const N: usize>(&mut self, those: [T; N]) -> T {
        those[index(self.below(N as u64))]
    }
}

fn index(at: u64) -> usize {
    usize::try_from(at).expect("small")
}

/// What is erased at a start, as the store does it: all that is used or reserved above the floor.
fn due(used: &IntervalSet, header: &LaneHeader) -> Vec<(u64, u64)> {
    let mut runs = IntervalSet::default();
    used.iter().filter(|&(_, end)| end > header.floor).for_each(|(start, end)| {
        runs.insert(start.max(header.floor), end);
    });
    runs.insert(header.floor, header.mark);
    runs.iter().collect()
}

/// The next runs that are used: in order at an end that allocates, and anywhere at the other; some of them tag keys of marks. At the
/// end that allocates the mark moves first.
fn next_runs(lane: &LaneFile, receiver: bool, draws: &mut Draws) -> (Vec<(u64, u64)>, bool) {
    // What is kept for tag keys lies behind.
    const LAST: u64 = BYTES - 100;
    let mut runs = IntervalSet::default();
    let mut alive = true;
    if receiver {
        for _ in 0..=draws.below(3) {
            let start = [draws.below(LAST), draws.below(4) * BLOCK_BYTES];
            let start = draws.of(start).min(LAST);
            let end = [start + 1 + draws.below(5000), (1 + draws.below(4)) * BLOCK_BYTES];
            runs.insert(start, draws.of(end).clamp(start, LAST));
        }
    } else {
        let mark = lane.header().mark;
        let to = [mark + draws.below(3000), mark.next_multiple_of(BLOCK_BYTES), LAST];
        let to = draws.of(to).min(LAST);
        alive = lane.advance(to, Counts::default()).is_ok();
        runs.insert(mark, to);
    }
    if draws.below(4) == 0 {
        let key = BYTES - 32 * (1 + draws.below(3));
        runs.insert(key, key + 32);
    }
    (runs.iter().collect(), alive)
}

#[test]
fn of_any_erasures_and_crashes_neither_damage_nor_a_checksum_is_left() {
    let mut draws = Draws(1);
    for case in 0..3000 {
        let receiver = draws.below(2) == 0;
        let (mut disk, mut used) = (padded(), IntervalSet::default());
        let mut erase = |lane: &LaneFile, runs: &[(u64, u64)]| {
            // The ledger says so first.
            runs.iter().for_each(|&(start, end)| drop(used.insert(start, end)));
            let erased = lane.erase(runs, receiver);
            assert!(!matches!(erased, Ok(Some(_))), "case {case}: {runs:?} of {used:?}");
            (erased.is_ok(), used.clone())
        };
        let mut known = IntervalSet::default();
        for _ in 0..=draws.below(5) {
            let lane = open(&disk, BYTES);
            let cut = disk.faults.steps.load(Ordering::SeqCst) + 1 + draws.below(40);
            disk.faults.cut_from.store(cut, Ordering::SeqCst);
            let mut alive;
            (alive, known) = erase(&lane, &due(&known, &lane.header()));
            for _ in 0..draws.below(6) {
                if alive {
                    let (runs, marked) = next_runs(&lane, receiver, &mut draws);
                    // Without its mark nothing of it was given to anybody.
                    (alive, known) = if marked { erase(&lane, &runs) } else { (false, known) };
                }
            }
            let torn = Keep::Torn(index(draws.below(80)));
            let some = Keep::Some(draws.below(1 << 30));
            disk = disk.crashed(draws.of([Keep::Nothing, Keep::All, torn, some]), Arc::default());
        }
        let lane = open(&disk, BYTES);
        let (_, known) = erase(&lane, &due(&known, &lane.header()));
        let mut expected = pad(0, BYTES);
        known.iter().for_each(|(start, end)| expected[index(start)..index(end)].fill(0));
        let mut found = vec![0; index(BYTES)];
        lane.file.read_at(&mut found, DATA_OFFSET).expect("readable");
        assert!(found == expected, "case {case}: what is used is zeros, and nothing else: {known:?}");
        let entries = read_entries(&*lane.file, BYTES, 0, 4).expect("readable");
        for ((block, bytes), entry) in (0..).zip(expected.chunks(index(BLOCK_BYTES))).zip(entries.iter()) {
            assert_eq!(
                *entry,
                Entry::settled(checksum(block, bytes)),
                "case {case}: block {block} of {known:?}"
            );
        }
    }
}
