//! From what was asked for to an order: which node it is for, and whether it is possible.

use dske_node::{
    config::Role,
    status::{PeerStatus, Status},
};
use dske_protocol::ids::Name;
use dske_storage::{TableSide, TableStatus};

use super::{App, Effect, Kind, Mode, Question};
use crate::{
    bindings::Action,
    command::{self, Command},
    deed::{Deed, Order},
    screens::{Entry, Subject},
    theme::Tone,
};

impl App {
    /// Carries out what was typed.
    pub(super) fn command(&mut self, now_ms: u64, line: &str) {
        match command::parse(line) {
            Err(why) => self.toast(now_ms, Tone::Crit, why),
            Ok(Command::Quit) => self.quit(),
            Ok(Command::Pause) => self.pause(),
            Ok(Command::Show(screen)) => self.screen = screen,
            Ok(Command::Node(node)) => self.look_at(now_ms, node),
            Ok(Command::Filter(text)) => self.filter = text,
            Ok(Command::Bits(bits)) => self.bits = bits,
            Ok(Command::Palette(palette)) => self.settings.palette = palette,
            Ok(Command::Export(path)) => self.effects.push(Effect::Export(path)),
            Ok(Command::Sort(title)) => {
                let columns = self.screen.columns();
                match columns.iter().position(|column| column.title.eq_ignore_ascii_case(&title)) {
                    Some(column) => self.list_mut().sort_by(column),
                    None => {
                        let titles: Vec<&str> = columns.iter().map(|column| column.title).collect();
                        let why = format!("no column {title:?}; there are {}", titles.join(", "));
                        self.toast(now_ms, Tone::Crit, why);
                    }
                }
            }
            Ok(Command::Do(node, deed)) => match node.map_or_else(|| self.place_of(&deed), Ok) {
                Ok(node) => self.ask(now_ms, Order { node, deed }),
                Err(why) => self.toast(now_ms, Tone::Crit, why),
            },
        }
    }

    /// Asks whether it is meant, where it is possible.
    pub(super) fn ask(&mut self, now_ms: u64, order: Order) {
        let node = self.model.nodes.get(&order.node);
        let why = match (node, &order.deed) {
            (_, deed) if deed.needs_net() && self.kind != Kind::Net => Some(
                "processes are started and stopped only on a local net: `dske top --testnet NAME`".to_owned(),
            ),
            (None, _) => Some(format!("{} is not watched here", order.node)),
            (Some(node), Deed::Lie(_)) if !node.is(Role::Hub) => {
                Some(format!("{} is no hub: only hubs can be made to lie", order.node))
            }
            (Some(node), Deed::Key { .. }) if node.is(Role::Hub) && !node.is(Role::Client) => {
                Some(format!("{} is no client: say `as CLIENT`", order.node))
            }
            _ => None,
        };
        match why {
            Some(why) => self.toast(now_ms, Tone::Crit, why),
            None => self.mode = Mode::Confirm(Question::Do(order)),
        }
        self.dirty = true;
    }

    /// Where something is to be done, if it was not said.
    fn place_of(&self, deed: &Deed) -> Result<Name, String> {
        let known = || self.model.known(self.focus());
        let client = |name: &Name| self.model.nodes.get(name).is_some_and(|node| node.is(Role::Client));
        let found = match deed {
            Deed::Retire { serial } => {
                let has = known()
                    .filter(|(_, _, status)| status.modules.iter().any(|module| module.serial == *serial));
                // Both ends have it; it is the client's end that needs another one.
                let ours = |status: &Status| {
                    let of_client = |table: &TableStatus| table.side == TableSide::Client;
                    status.tables.iter().any(|table| table.serial == *serial && of_client(table))
                };
                has.max_by_key(|(name, _, status)| (ours(status), client(name))).map(|(name, ..)| name)
            }
            Deed::Readmit { hub } => known()
                .find(|(_, _, status)| {
                    let is_it =
                        |peer: &&PeerStatus| peer.role == Role::Hub && hub.fits(&peer.node, &peer.name);
                    status.peers.iter().filter(is_it).any(|peer| peer.excluded.is_some())
                })
                .map(|(name, ..)| name),
            Deed::Key { with, .. } => {
                known().map(|(name, ..)| name).find(|name| client(name) && !with.contains(name))
            }
            _ => None,
        };
        let only = || known().map(|(name, ..)| name).next().filter(|_| self.model.nodes.len() == 1);
        found.or_else(only).cloned().ok_or_else(|| "say where: `as NODE`".to_owned())
    }

    /// What a key asks for about the chosen row.
    pub(super) fn act(&mut self, now_ms: u64, action: Action) {
        let chosen = self.chosen(now_ms);
        let subject = chosen.as_ref().map_or(&Subject::Nothing, |entry| &entry.subject);
        let node = chosen.as_ref().and_then(|entry| entry.node.clone());
        let wanted = match (action, subject) {
            (Action::Key, _) => {
                self.mode = Mode::Command { line: self.key_line(chosen.as_ref()) };
                return;
            }
            (Action::Retire, Subject::Module(serial)) => {
                Some((node, Deed::Retire { serial: serial.clone() }))
            }
            (Action::Readmit, Subject::Hub(hub)) => hub.parse().ok().map(|hub| (node, Deed::Readmit { hub })),
            (Action::Readmit, Subject::Node(hub)) => Some((None, Deed::Readmit { hub: hub.clone().into() })),
            (Action::Stop, Subject::Node(node)) => Some((Some(node.clone()), Deed::Stop)),
            (Action::Restart, Subject::Node(node)) => Some((Some(node.clone()), Deed::Restart)),
            (Action::Lie, Subject::Node(node)) => {
                let lies = |name: &Name| {
                    let status = self.model.nodes.get(name).and_then(|node| node.live());
                    status.is_some_and(|status| status.node.fault.is_some())
                };
                Some((Some(node.clone()), Deed::Lie(!lies(node))))
            }
            _ => None,
        };
        let Some((node, deed)) = wanted else {
            let where_to = match action {
                Action::Retire => "choose a module: on Pads or Modules",
                Action::Readmit => "choose an excluded hub: on Hubs or Identity",
                _ => "choose a node on Hubs",
            };
            return self.toast(now_ms, Tone::Warn, where_to.to_owned());
        };
        match node.map_or_else(|| self.place_of(&deed), Ok) {
            Ok(node) => self.ask(now_ms, Order { node, deed }),
            Err(why) => self.toast(now_ms, Tone::Crit, why),
        }
    }

    /// A command line for a key between two clients that are there.
    fn key_line(&self, chosen: Option<&Entry>) -> String {
        let client = |name: &&Name| self.model.nodes.get(*name).is_some_and(|node| node.is(Role::Client));
        let named = chosen.and_then(|entry| entry.node.as_ref()).filter(client);
        let from = named.or_else(|| self.model.known(self.focus()).map(|(name, ..)| name).find(client));
        let Some(from) = from else { return "key ".to_owned() };
        let status = self.model.nodes.get(from).and_then(|node| node.live());
        let acquainted = status.and_then(|status| status.identities.first()).map(|known| &known.name);
        let other = acquainted.or_else(|| self.model.nodes.keys().find(|name| *name != from && client(name)));
        other.map_or_else(|| "key ".to_owned(), |other| format!("key {other} {} as {from}", self.bits()))
    }
}
