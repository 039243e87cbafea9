//! The screen at the widths that people have.

use dske_node::status::Status;

use crate::{once, samples::client, text};

#[test]
fn every_line_fits_and_none_can_steer_the_terminal() {
    for width in [1, 40, 41, 59, 60, 80, 95, 96, 120, 300] {
        let screen = once(&client(), width);
        let limit = usize::from(width.max(40));
        for line in screen.lines() {
            assert!(text::width(line) <= limit, "{} columns at {width}: {line}", text::width(line));
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }
}

#[test]
fn what_matters_is_there_at_every_width() {
    for width in [40, 80, 120] {
        let screen = once(&client(), width);
        for part in [
            "alice",
            "n5 k3 kB3",
            "leak 3",
            "margin 1 !",
            "hubs 4/5",
            "CRIT",
            "QUAR",
            "AWAY",
            "EXCLUDED",
            "ABORT",
            "validated",
            "18:51:02",
            "false share from p4",
        ] {
            assert!(screen.contains(part), "{part} is missing at {width}:\n{screen}");
        }
    }
}

#[test]
fn eighty_columns_look_like_this() {
    let screen = once(&client(), 80);
    let lines: Vec<&str> = screen.lines().collect();
    assert_eq!(lines[0], " dske alice (client) │ n5 k3 kB3 │ leak 3 mall 3 inj 3 disr 3 │ hubs 4/5");
    assert_eq!(lines[1], " margin 1 ! │ up 1m01");
    let pad = lines.iter().find(|line| line.contains("p2-0001") && line.contains("up*")).copied();
    assert_eq!(
        pad,
        Some(" p2         up*  p2-0001    ████████████████████░░░░░░░░░░░░  62%  4.6Mi OK"),
        "{screen}"
    );
}

#[test]
fn gauges_keep_their_meaning_on_narrow_screens() {
    let screen = once(&client(), 40);
    let gauge = |left: &str| {
        let line = screen.lines().find(|line| line.contains(left)).unwrap_or_default();
        (line.matches('█').count(), line.matches('░').count())
    };
    let ((low, rest), (high, _)) = (gauge(" 3%"), gauge("62%"));
    assert!(low >= 1 && low < high && rest > 0, "{screen}");
}

#[test]
fn an_empty_node_says_so() {
    let empty =
        Status { policy: None, tables: vec![], peers: vec![], sessions: vec![], events: vec![], ..client() };
    let screen = once(&empty, 80);
    for part in ["no tables", "none yet", "none known", "forwarded"] {
        assert!(screen.contains(part), "{part}:\n{screen}");
    }
}
