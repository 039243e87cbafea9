use super::*;

const BOB: NodeId = NodeId::new([0xb0; 32]);

fn letter(sender: u8, at_ms: u64) -> Letter {
    let table = TableId::new([sender; 16]);
    Letter { receiver: BOB, sender: NodeId::new([sender; 32]), table, bytes: 400, at_ms }
}

fn ready(on_their_way_max: u64) -> Post<u64> {
    let mut post = Post::new(on_their_way_max);
    post.connection(BOB, true);
    post.ready(BOB);
    post
}

/// Sends all that may go now.
fn go(post: &mut Post<u64>, first_ticket: u64) -> Vec<u64> {
    (first_ticket..).map_while(|ticket| post.next(BOB, Ticket(ticket))).collect()
}

#[test]
fn an_unanswered_message_waits_and_goes_again() {
    let mut post = ready(8);
    post.add(1, letter(1, 0));
    assert_eq!(post.next(BOB, Ticket(1)), Some(1));
    assert_eq!(post.answered(BOB, Ticket(1), None), None);
    assert_eq!(post.next(BOB, Ticket(2)), None, "paused after a failure");
    assert_eq!(post.resume(), [BOB]);
    assert_eq!(post.next(BOB, Ticket(3)), Some(1));
    let used = Some(Err(Refusal::PadUsed));
    assert_eq!(post.answered(BOB, Ticket(3), used), Some((1, letter(1, 0))));
    assert!(post.is_empty() && post.by_age.is_empty() && post.by_table.is_empty());
}

#[test]
fn a_message_that_cannot_be_taken_yet_lets_others_pass() {
    let mut post = ready(8);
    post.add(1, letter(1, 0));
    post.add(2, letter(1, 0));
    assert_eq!(post.next(BOB, Ticket(1)), Some(1));
    assert_eq!(post.answered(BOB, Ticket(1), Some(Err(Refusal::TablePending))), None);
    post.resume();
    assert_eq!(go(&mut post, 2), [2, 1]);
}

#[test]
fn nothing_goes_to_a_receiver_that_is_away() {
    let mut post: Post<u64> = Post::default();
    assert!(!post.send_or_add(1, letter(1, 0), Ticket(1)));
    post.ready(BOB);
    assert_eq!(post.next(BOB, Ticket(1)), None, "compared, and gone since");
    post.connection(BOB, true);
    assert_eq!((post.next(BOB, Ticket(1)), post.pending(&BOB)), (None, 1));
    post.ready(BOB);
    assert_eq!(post.next(BOB, Ticket(1)), Some(1));
}

#[test]
fn a_message_goes_at_once_where_none_of_its_sender_waits() {
    let mut post = ready(8);
    assert!(post.send_or_add(1, letter(1, 0), Ticket(1)));
    assert_eq!(post.answered(BOB, Ticket(1), Some(Err(Refusal::Busy))), None);
    assert!(!post.send_or_add(2, letter(1, 0), Ticket(2)), "it does not overtake the first");
    assert!(post.send_or_add(3, letter(2, 0), Ticket(3)), "another sender's does");
    post.resume();
    assert_eq!(go(&mut post, 4), [1, 2], "in their order");
}

#[test]
fn senders_take_turns_whatever_waits_of_one() {
    let mut post = ready(8);
    for id in 0..17_000 {
        post.add(id, letter(1, 0));
    }
    assert_eq!(go(&mut post, 0).len(), 4, "as much as is left free");
    post.add(20_000, letter(2, 0));
    post.add(20_001, letter(2, 0));
    assert_eq!(go(&mut post, 100), [20_000, 20_001]);
    // Of the first the receiver has had enough; it goes on with the second.
    for ticket in 0..4 {
        assert_eq!(post.answered(BOB, Ticket(ticket), Some(Err(Refusal::Busy))), None);
    }
    assert_eq!(go(&mut post, 200), []);
    assert!(post.answered(BOB, Ticket(100), Some(Ok(()))).is_some());
    post.add(20_002, letter(2, 0));
    assert_eq!(go(&mut post, 300), [20_002]);
    post.resume();
    assert_eq!(go(&mut post, 400)[..2], [0, 1], "those that were refused come first again");
}

#[test]
fn one_message_of_each_sender_may_always_go() {
    let mut post = ready(4);
    for sender in 1..20 {
        post.add(u64::from(sender), letter(sender, 0));
        post.add(100 + u64::from(sender), letter(sender, 0));
    }
    let went = go(&mut post, 0);
    assert!((1..20).all(|id| went.contains(&id)), "{went:?}");
}

#[test]
fn what_is_old_is_dropped_in_slices_and_what_is_on_its_way_is_not() {
    let mut post = ready(4);
    for id in 0..100 {
        post.add(id, letter(1, id));
    }
    let on_their_way = go(&mut post, 0);
    assert_eq!(on_their_way, [0, 1]);
    let ids = |dropped: Vec<(u64, Letter)>| dropped.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(ids(post.expire(50, 3)), [2, 3, 4]);
    assert_eq!(ids(post.expire(50, 1000)), (5..50).collect::<Vec<_>>());
    assert_eq!(ids(post.expire(50, 1000)), []);
    // It comes back unanswered, and is as old as before.
    assert_eq!(post.answered(BOB, Ticket(0), None), None);
    assert_eq!(ids(post.expire(50, 1000)), [0]);
    assert_eq!((post.len(), post.pending(&BOB)), (51, 51));
}

#[test]
fn a_table_that_is_left_takes_its_messages_with_it() {
    let mut post = ready(4);
    for id in 0..10 {
        post.add(id, letter(if id < 6 { 1 } else { 2 }, 0));
    }
    assert_eq!(post.next(BOB, Ticket(0)), Some(0));
    let table = TableId::new([1; 16]);
    assert_eq!(post.leave_table(&table, 2).len(), 2);
    assert_eq!(post.leave_table(&table, 100).len(), 3, "all but the one on its way");
    assert!(post.lost(BOB, Ticket(0)).is_some());
    assert_eq!(post.tables().collect::<Vec<_>>(), [&TableId::new([2; 16])]);
    assert_eq!(post.len(), 4);
}

/// Prints what a step costs; `cargo test --release -p dske-protocol --lib what_waits -- --ignored --nocapture`.
#[test]
#[ignore = "prints figures"]
fn what_waits_and_what_a_step_costs() {
    println!("{:>9} {:>10} {:>10} {:>12} {:>12}", "messages", "add ns", "next ns", "expire ns", "slice µs");
    for count in [1_000, 10_000, 100_000, 200_000] {
        let mut post = ready(u64::MAX);
        let each = |took: std::time::Duration, of: u64| took.as_nanos() / u128::from(of);
        let began = std::time::Instant::now();
        for id in 0..count {
            post.add(id, letter(u8::try_from(id % 50).expect("small"), id));
        }
        let add = each(began.elapsed(), count);
        let began = std::time::Instant::now();
        for ticket in 0..500 {
            post.next(BOB, Ticket(ticket));
        }
        let next = each(began.elapsed(), 500);
        let (began, mut worst, mut dropped) = (std::time::Instant::now(), std::time::Duration::ZERO, 0);
        loop {
            let slice = std::time::Instant::now();
            let gone = post.expire(u64::MAX, 1024).len() as u64;
            worst = worst.max(slice.elapsed());
            dropped += gone;
            if gone == 0 {
                break;
            }
        }
        let expire = each(began.elapsed(), dropped);
        println!("{count:>9} {add:>10} {next:>10} {expire:>12} {:>12}", worst.as_micros());
    }
}
