//! The screens at the sizes that people have, as files in `src/snapshots`. `DSKE_SNAPSHOTS=write` writes them anew.

use std::{fs, path::Path};

use dske_node::config::Role;
use ratatui::{
    Terminal,
    backend::TestBackend,
    buffer::Buffer,
    crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind},
};

use crate::{
    App, Deed, Effect, Kind, Order, Palette, Settings, Setup, Update, samples, screen_text, screens::Screen,
    svg,
};

const NOW_MS: u64 = 67_900_000;

fn app(kind: Kind, settings: Settings) -> App {
    let mut app = App::new(Setup { title: "dev".into(), kind, settings });
    for (at_ms, status) in [(NOW_MS - 9_000, samples::client()), (NOW_MS, samples::client())] {
        let node = status.node.name.clone();
        app.update(NOW_MS, Update::Status { node, at_ms, status: Box::new(status) });
    }
    if kind == Kind::Net {
        let status = samples::hub("p4");
        let node = status.node.name.clone();
        app.update(NOW_MS, Update::Status { node, at_ms: NOW_MS, status: Box::new(status) });
        let why = "no node is running".to_owned();
        app.update(NOW_MS, Update::Away { node: samples::name("p5"), roles: vec![Role::Hub], why });
    }
    app
}

fn press(app: &mut App, keys: &str) {
    for c in keys.chars() {
        let code = match c {
            '\n' => KeyCode::Enter,
            '\u{1b}' => KeyCode::Esc,
            c => KeyCode::Char(c),
        };
        app.event(NOW_MS, &Event::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    }
}

fn paint(app: &mut App, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| app.draw(frame, NOW_MS)).unwrap();
    terminal.backend().buffer().clone()
}

#[track_caller]
fn check(name: &str, screen: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/snapshots").join(format!("{name}.txt"));
    if std::env::var_os("DSKE_SNAPSHOTS").is_some_and(|value| value == "write") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, screen).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert!(wanted == screen, "{name} is not as in {}:\n{screen}", path.display());
}

#[test]
fn screens_look_as_they_did() {
    for (width, height) in [(120, 40), (80, 24), (40, 12)] {
        for screen in Screen::ALL {
            for (kind, of) in [(Kind::Node, "node"), (Kind::Net, "net")] {
                let mut app = app(kind, Settings::default());
                app.screen = screen;
                let name = format!("{}-{of}-{width}x{height}", screen.title().to_lowercase());
                check(&name, &screen_text(&paint(&mut app, width, height)));
            }
        }
    }
}

#[test]
fn dialogs_and_lines_look_as_they_did() {
    let mut net = app(Kind::Net, Settings::default());
    press(&mut net, "3");
    press(&mut net, ":stop p4\n");
    check("confirm-80x24", &screen_text(&paint(&mut net, 80, 24)));
    press(&mut net, "n:export x");
    check("command-80x24", &screen_text(&paint(&mut net, 80, 24)));
    let mut ascii = app(Kind::Net, Settings { ascii: true, ..Settings::default() });
    press(&mut ascii, "2");
    let screen = screen_text(&paint(&mut ascii, 120, 40));
    assert!(screen.is_ascii(), "{screen}");
    check("ascii-120x40", &screen);
}

#[test]
fn no_size_and_no_words_break_it() {
    let words = [
        "p1\u{1b}[2J\u{1b}]0;owned\u{7}\r\n".to_owned(),
        "\u{202e}evil\u{2066}\u{200f}".to_owned(),
        "x".repeat(10_000),
        "鍵".repeat(5_000),
        format!("e{}", "\u{301}".repeat(9_999)),
        String::new(),
    ];
    for words in &words {
        for ascii in [false, true] {
            let mut app = app(Kind::Net, Settings { ascii, ..Settings::default() });
            let status = samples::hostile(words);
            app.update(
                NOW_MS,
                Update::Status { node: samples::name("mallory"), at_ms: NOW_MS, status: Box::new(status) },
            );
            app.done(NOW_MS, false, words);
            for (width, height) in
                [(1, 1), (2, 3), (5, 5), (17, 7), (40, 12), (80, 24), (120, 40), (300, 100)]
            {
                for screen in Screen::ALL {
                    app.screen = screen;
                    let buffer = paint(&mut app, width, height);
                    for cell in &buffer.content {
                        let symbol = cell.symbol();
                        assert!(!symbol.chars().any(char::is_control), "{symbol:?}");
                        assert!(!symbol.contains(['\u{202e}', '\u{2066}', '\u{200f}']), "{symbol:?}");
                        assert!(symbol.chars().count() <= 3, "{symbol:?}");
                        assert!(!ascii || symbol.is_ascii(), "{symbol:?}");
                    }
                    assert!(svg(&buffer).ends_with("</svg>\n"));
                }
            }
        }
    }
}

#[test]
fn dialogs_fit_every_size() {
    for (width, height) in [(1, 1), (3, 2), (19, 5), (20, 6), (80, 24)] {
        let mut app = app(Kind::Net, Settings::default());
        press(&mut app, ":lie p4\n");
        paint(&mut app, width, height);
        press(&mut app, "n/some words");
        paint(&mut app, width, height);
        press(&mut app, "\n:a long command that does not fit");
        paint(&mut app, width, height);
    }
}

#[test]
fn nothing_is_done_before_it_is_confirmed() {
    let mut app = app(Kind::Net, Settings::default());
    press(&mut app, ":lie p4\n");
    assert!(app.effects().is_empty());
    press(&mut app, "x\n");
    assert!(app.effects().is_empty(), "Enter is no yes");
    press(&mut app, ":key bob 512 as alice\ny");
    let deed = Deed::Key { with: vec![samples::name("bob")], bits: 512, out: None };
    assert_eq!(app.effects(), [Effect::Do(Order { node: samples::name("alice"), deed })]);
    press(&mut app, ":lie alice\n");
    assert!(screen_text(&paint(&mut app, 80, 24)).contains("only hubs can be made to lie"));
    press(&mut app, "q");
    assert_eq!(app.effects(), [Effect::Quit]);
}

#[test]
fn a_single_node_has_no_processes_to_stop() {
    let mut app = app(Kind::Node, Settings::default());
    press(&mut app, ":stop alice\n");
    assert!(app.effects().is_empty());
    assert!(screen_text(&paint(&mut app, 120, 40)).contains("--testnet NAME"));
}

#[test]
fn the_node_of_this_process_is_not_ended_by_one_key() {
    let mut app = app(Kind::Inside, Settings::default());
    press(&mut app, "q");
    assert!(app.effects().is_empty());
    press(&mut app, "y");
    assert_eq!(app.effects(), [Effect::Quit]);
}

#[test]
fn a_held_picture_does_not_move_until_it_is_let_go() {
    let mut app = app(Kind::Node, Settings::default());
    let before = screen_text(&paint(&mut app, 120, 40));
    press(&mut app, "p");
    let mut status = samples::client();
    status.tables[1].lanes[0].left = 1;
    status.tables[1].lanes[0].for_keys = 1;
    status.tables[1].lanes[0].used_key += (5 << 20) - 1;
    app.update(
        NOW_MS,
        Update::Status { node: samples::name("alice"), at_ms: NOW_MS + 1_000, status: Box::new(status) },
    );
    let held = screen_text(&paint(&mut app, 120, 40));
    assert!(held.contains("PAUSED") && held.matches("62%").count() == before.matches("62%").count());
    press(&mut app, "p");
    assert!(screen_text(&paint(&mut app, 120, 40)).matches("62%").count() < before.matches("62%").count());
}

#[test]
fn the_mouse_chooses_screens_rows_and_columns() {
    let mut app = app(Kind::Net, Settings::default());
    let click = |app: &mut App, column, row| {
        let kind = MouseEventKind::Down(MouseButton::Left);
        let event = MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE };
        app.event(NOW_MS, &Event::Mouse(event));
    };
    let screen = screen_text(&paint(&mut app, 120, 40));
    let find = |screen: &str, words: &str| {
        let row = screen.lines().position(|line| line.contains(words)).unwrap();
        let line = screen.lines().nth(row).unwrap();
        let column = line.chars().count() - line[line.find(words).unwrap()..].chars().count();
        (u16::try_from(column).unwrap(), u16::try_from(row).unwrap())
    };
    let (column, row) = find(&screen, "6 Events");
    click(&mut app, column, row);
    assert_eq!(app.screen, Screen::Events);
    press(&mut app, "3");
    let hubs = screen_text(&paint(&mut app, 120, 40));
    let (column, row) = find(&hubs, "p5 ");
    click(&mut app, column, row);
    assert!(screen_text(&paint(&mut app, 120, 40)).contains("p5 (hub)"));
    let (column, row) = find(&hubs, "ROLE");
    click(&mut app, column, row);
    assert!(screen_text(&paint(&mut app, 120, 40)).contains("ROLE↑"));
}

#[test]
fn filter_and_sort_are_typed() {
    let mut app = app(Kind::Node, Settings::default());
    press(&mut app, "/P2 up\n");
    let screen = screen_text(&paint(&mut app, 120, 20));
    assert!(
        screen.contains("/P2 up") && screen.contains("p2-0001") && !screen.contains("p1-0001"),
        "{screen}"
    );
    press(&mut app, "\u{1b}:sort left\n");
    assert!(screen_text(&paint(&mut app, 120, 20)).contains("LEFT↑"));
    press(&mut app, "r:sort nothing\n");
    let screen = screen_text(&paint(&mut app, 120, 20));
    assert!(screen.contains("LEFT↓") && screen.contains("no column"), "{screen}");
}

#[test]
fn a_small_screen_shows_details_in_place_of_the_list() {
    let mut app = app(Kind::Net, Settings::default());
    paint(&mut app, 40, 12);
    press(&mut app, "\n");
    let screen = screen_text(&paint(&mut app, 40, 12));
    assert!(screen.contains("Details") && screen.contains("274Ki of 7.5Mi"), "{screen}");
    press(&mut app, "\u{1b}");
    assert!(!screen_text(&paint(&mut app, 40, 12)).contains("Details"));
}

#[test]
fn details_longer_than_their_pane_are_read_to_their_end() {
    let mut app = app(Kind::Net, Settings::default());
    press(&mut app, "3");
    let top = screen_text(&paint(&mut app, 80, 24));
    assert!(top.contains("alice (client)") && top.contains("] more"), "{top}");
    let below = |screen: &str| {
        let (before, _) = screen.split_once(" below (])")?;
        before.rsplit(' ').next()?.parse::<usize>().ok()
    };
    let mut left = below(&top).unwrap();
    let mut screen = top.clone();
    while let Some(now) = below(&screen) {
        assert!(now <= left, "it goes down: {screen}");
        left = now;
        press(&mut app, "]");
        screen = screen_text(&paint(&mut app, 80, 24));
    }
    check("details-end-80x24", &screen);
    assert!(screen.contains("above ([)") && !screen.contains("alice (client)"), "{screen}");
    press(&mut app, "]");
    assert_eq!(screen_text(&paint(&mut app, 80, 24)), screen, "the end is the end");
    let large = screen_text(&paint(&mut app, 120, 40));
    assert!(large.contains("alice (client)") && !large.contains("] more"), "there is room for all: {large}");
    paint(&mut app, 80, 24);
    for keys in ["]", "j", "k"] {
        press(&mut app, keys);
        screen = screen_text(&paint(&mut app, 80, 24));
    }
    assert_eq!(screen, top, "another row begins at its top");
}

#[test]
fn the_wheel_moves_what_is_under_it() {
    let mut app = app(Kind::Net, Settings::default());
    press(&mut app, "3");
    let wheel = |app: &mut App, kind, row| {
        let event = MouseEvent { kind, column: 10, row, modifiers: KeyModifiers::NONE };
        app.event(NOW_MS, &Event::Mouse(event));
        screen_text(&paint(app, 80, 24))
    };
    let before = screen_text(&paint(&mut app, 80, 24));
    let details = u16::try_from(before.lines().position(|line| line.contains("Details")).unwrap()).unwrap();
    let screen = wheel(&mut app, MouseEventKind::ScrollDown, details + 2);
    assert!(screen.contains("Hubs ─ 1/6") && screen.contains("3 above ([)"), "{screen}");
    assert_eq!(wheel(&mut app, MouseEventKind::ScrollUp, details + 2), before);
    let screen = wheel(&mut app, MouseEventKind::ScrollDown, 6);
    assert!(screen.contains("Hubs ─ 4/6") && !screen.contains("above"), "{screen}");
}

#[test]
fn colours_are_never_the_only_sign() {
    let mono = Settings { palette: Palette::Mono, ..Settings::default() };
    let (mut mono, mut coloured) = (app(Kind::Net, mono), app(Kind::Net, Settings::default()));
    for screen in Screen::ALL {
        (mono.screen, coloured.screen) = (screen, screen);
        let (plain, picture) = (paint(&mut mono, 120, 40), paint(&mut coloured, 120, 40));
        assert_eq!(screen_text(&plain), screen_text(&picture));
        assert!(plain.content.iter().all(|cell| cell.fg == ratatui::style::Color::Reset));
    }
}

#[test]
fn a_picture_is_painted_anew_only_when_something_has_changed() {
    let mut app = app(Kind::Node, Settings::default());
    paint(&mut app, 80, 24);
    app.tick(NOW_MS + 500);
    let same =
        Update::Status { node: samples::name("alice"), at_ms: NOW_MS, status: Box::new(samples::client()) };
    app.update(NOW_MS + 500, same);
    assert!(!app.is_dirty());
    app.tick(NOW_MS + 1_000);
    assert!(app.is_dirty(), "ages");
}

/// `cargo test -p dske-tui --lib --release frames -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn frames_of_ten_nodes_and_hundreds_of_sessions() {
    let mut app = app(Kind::Net, Settings::default());
    for at in 0..10_u8 {
        let mut status = samples::client();
        status.node.name = samples::name(&format!("client{at}"));
        let session = status.sessions[0].clone();
        status.sessions = (0..128_u8)
            .map(|block| {
                let block = dske_protocol::ids::BlockId::new([at.wrapping_mul(128).wrapping_add(block); 16]);
                dske_node::status::SessionStatus { block, ..session.clone() }
            })
            .collect();
        let node = status.node.name.clone();
        app.update(NOW_MS, Update::Status { node, at_ms: NOW_MS, status: Box::new(status) });
    }
    for screen in Screen::ALL {
        app.screen = screen;
        let began = std::time::Instant::now();
        for _ in 0..50 {
            paint(&mut app, 120, 40);
        }
        println!("{}: {:.1} frames/s", screen.title(), 50.0 / began.elapsed().as_secs_f64());
    }
}
