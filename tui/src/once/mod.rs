//! One screen as plain text, behind `dske top --once`: one file per section, each a function from the snapshot to
//! lines that fit the width.

mod events;
mod header;
mod hubs;
mod pads;
mod sessions;

use dske_node::status::Status;

use crate::text;

/// Narrowest screen that is drawn for; a narrower one gets lines of this width.
const WIDTH_MIN: u16 = 40;

/// One screen as plain text, `width` columns wide, ending in a line end.
pub fn once(status: &Status, width: u16) -> String {
    let width = usize::from(width.max(WIDTH_MIN));
    let sections = [
        ("Pads", pads::lines(status, width)),
        ("Sessions", sessions::lines(status, width)),
        (hubs::title(status), hubs::lines(status, width)),
        ("Events", events::lines(status, width)),
    ];
    let mut screen = header::lines(status, width);
    for (title, lines) in sections {
        screen.push(text::rule(title, width));
        screen.extend(lines);
    }
    screen.iter().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

#[cfg(test)]
mod tests;
