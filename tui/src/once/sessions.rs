//! Sessions: agreements under way and the latest ended ones, with their shares and what became of them.

use dske_node::status::{SessionStatus, Status};

use crate::text;

/// Most sessions shown.
const SESSIONS_MAX: usize = 8;

/// One line per session, newest first; a second one for a reason that does not fit.
pub(crate) fn lines(status: &Status, width: usize) -> Vec<String> {
    if status.sessions.is_empty() {
        return vec![" none yet".to_owned()];
    }
    let mut lines: Vec<String> = status
        .sessions
        .iter()
        .take(SESSIONS_MAX)
        .flat_map(|session| session_lines(session, status, width))
        .collect();
    if let Some(more) = status.sessions.len().checked_sub(SESSIONS_MAX).filter(|more| *more > 0) {
        lines.push(format!(" and {more} more"));
    }
    lines
}

fn session_lines(session: &SessionStatus, status: &Status, width: usize) -> Vec<String> {
    // Nodes whose name is not known come as their short id; this one's is known here.
    let own = status.node.id.short();
    let name =
        |name: &String| if *name == own { status.node.name.to_string() } else { text::printable(name) };
    let receivers: Vec<String> = session.receivers.iter().map(name).collect();
    let names = format!("{}→{}", name(&session.sender), receivers.join(","));
    let missing = usize::from(session.n.saturating_sub(session.shares));
    let dots = "■".repeat(usize::from(session.shares.min(session.n))) + &"□".repeat(missing);
    // Rosters of more than a dozen hubs are given as a figure only.
    let shares = match session.n {
        n if n <= 12 && width >= 60 => format!("{dots} {}/{n}", session.shares),
        n => format!("{}/{n}", session.shares),
    };
    let enough = if session.shares >= session.k { "≥k" } else { "<k" };
    let phase = text::printable(&session.phase);
    let mut line = format!(
        " {} {}  {shares} {enough}  {}  {}",
        text::clip(&session.block.short(), if width >= 60 { 8 } else { 4 }),
        text::clip(&names, width / 3),
        if phase == "aborted" { "ABORT" } else { phase.as_str() },
        text::short_time(session.took_us),
    );
    if width >= 60 {
        line.push_str(&format!("  {}bit", session.key_bytes.saturating_mul(8)));
    }
    let mut lines = vec![text::clip(&line, width)];
    if !session.liars.is_empty() {
        let liars: Vec<String> = session.liars.iter().map(|name| text::printable(name)).collect();
        lines.push(text::clip(&format!("      false share from {}", liars.join(", ")), width));
    }
    if let Some(reason) = &session.reason {
        lines.push(text::clip(&format!("      {}", text::printable(reason)), width));
    }
    lines
}
