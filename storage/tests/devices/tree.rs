//! A file system in memory that keeps what was synced apart from what was only written, and says what a
//! power cut may leave of it.
//!
//! It is as unkind as POSIX allows: without an fsync of a file its bytes and its length may be lost, kept or
//! torn, in any order; without an fsync of a directory so may its entries be, whatever was synced below it.
//! Two things it takes as given, as all journaling file systems do: a rename is whole, and a sector is.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
};

use rand::{RngExt, rngs::StdRng};

/// The unit that a device writes whole.
const SECTOR_BYTES: usize = 512;

/// Number of a node; the root is 1.
pub(crate) type Ino = u64;
pub(crate) const ROOT: Ino = 1;

/// What happens to what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// All of it is lost.
    All,
    /// None of it is.
    Nothing,
    /// The changes after a moment are lost, and the one at that moment is torn at any byte.
    Late,
    /// Each change of a file, each sector of it, and each change of a directory goes its own way.
    Any,
}

/// Why an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Missing,
    Exists,
    NotEmpty,
    WrongKind,
    ReadOnly,
    NoPower,
}

/// All worlds: each is a directory under the root, with a power supply of its own.
pub(crate) struct Tree {
    nodes: BTreeMap<Ino, Node>,
    next: Ino,
    /// Counts changes.
    clock: u64,
    /// Changes of directories that were not synced, by the number of the change.
    entries: BTreeMap<u64, Vec<Edit>>,
    powers: BTreeMap<Ino, Power>,
}

/// The power of one world.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Power {
    /// Changes and syncs so far.
    pub(crate) steps: u64,
    /// It goes at this step.
    pub(crate) cut_at: Option<u64>,
    pub(crate) gone: bool,
    /// From this step on nothing can be changed.
    pub(crate) read_only_at: Option<u64>,
}

pub(crate) struct Node {
    world: Ino,
    pub(crate) mode: u32,
    pub(crate) body: Body,
}

pub(crate) enum Body {
    File(Content),
    Dir(Entries),
}

#[derive(Default)]
pub(crate) struct Content {
    pub(crate) seen: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<(u64, Change)>,
}

#[derive(Default)]
pub(crate) struct Entries {
    pub(crate) seen: BTreeMap<OsString, Ino>,
    durable: BTreeMap<OsString, Ino>,
}

enum Change {
    Write(usize, Vec<u8>),
    /// A new length: cut off, or zeros.
    Length(usize),
    Zero(usize, usize),
}

#[derive(Clone)]
struct Edit {
    dir: Ino,
    name: OsString,
    to: Option<Ino>,
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(at, data) => put(bytes, *at, data),
            Self::Length(len) => bytes.resize(*len, 0),
            Self::Zero(from, to) => {
                let to = (*to).min(bytes.len());
                if let Some(run) = bytes.get_mut(*from..to) {
                    run.fill(0);
                }
            }
        }
    }
}

fn put(bytes: &mut Vec<u8>, at: usize, data: &[u8]) {
    if bytes.len() < at + data.len() {
        bytes.resize(at + data.len(), 0);
    }
    bytes[at..at + data.len()].copy_from_slice(data);
}

impl Tree {
    pub(crate) fn new() -> Self {
        let root = Node { world: 0, mode: 0o700, body: Body::Dir(Entries::default()) };
        Self {
            nodes: BTreeMap::from([(ROOT, root)]),
            next: ROOT + 1,
            clock: 0,
            entries: BTreeMap::new(),
            powers: BTreeMap::new(),
        }
    }

    /// Makes an empty world.
    pub(crate) fn add_world(&mut self, name: &str) -> Ino {
        let ino = self.next;
        self.add_node(ino, 0o700, Body::Dir(Entries::default()));
        self.root().seen.insert(name.into(), ino);
        self.powers.insert(ino, Power::default());
        ino
    }

    /// Forgets a world and all that is in it.
    pub(crate) fn drop_world(&mut self, name: &str) {
        let Some(world) = self.root().seen.remove(OsStr::new(name)) else { return };
        self.nodes.retain(|_, node| node.world != world);
        let nodes = &self.nodes;
        self.entries.retain(|_, edits| edits.iter().any(|edit| nodes.contains_key(&edit.dir)));
        self.powers.remove(&world);
    }

    pub(crate) fn power(&mut self, world: Ino) -> &mut Power {
        self.powers.entry(world).or_default()
    }

    fn root(&mut self) -> &mut Entries {
        match self.nodes.get_mut(&ROOT).map(|node| &mut node.body) {
            Some(Body::Dir(entries)) => entries,
            _ => unreachable!("the root is a directory"),
        }
    }

    fn add_node(&mut self, world: Ino, mode: u32, body: Body) -> Ino {
        let ino = self.next;
        self.next += 1;
        self.nodes.insert(ino, Node { world, mode, body });
        ino
    }

    // -- what the kernel asks

    pub(crate) fn node(&self, ino: Ino) -> Result<&Node, Fault> {
        let node = self.nodes.get(&ino).ok_or(Fault::Missing)?;
        let gone = self.powers.get(&node.world).is_some_and(|power| power.gone);
        if gone { Err(Fault::NoPower) } else { Ok(node) }
    }

    pub(crate) fn lookup(&self, dir: Ino, name: &OsStr) -> Result<Ino, Fault> {
        self.dir(dir)?.seen.get(name).copied().ok_or(Fault::Missing)
    }

    pub(crate) fn file(&self, ino: Ino) -> Result<&Content, Fault> {
        match &self.node(ino)?.body {
            Body::File(content) => Ok(content),
            Body::Dir(_) => Err(Fault::WrongKind),
        }
    }

    pub(crate) fn dir(&self, ino: Ino) -> Result<&Entries, Fault> {
        match &self.node(ino)?.body {
            Body::Dir(entries) => Ok(entries),
            Body::File(_) => Err(Fault::WrongKind),
        }
    }

    pub(crate) fn set_mode(&mut self, ino: Ino, mode: u32) -> Result<(), Fault> {
        self.node(ino)?;
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.mode = mode & 0o777;
        }
        Ok(())
    }

    /// One more step of the node's world; the power may go with it. The change of that step was not
    /// acknowledged, but may have reached the device.
    fn step(&mut self, ino: Ino) -> Result<bool, Fault> {
        let world = self.node(ino)?.world;
        let power = self.power(world);
        power.steps += 1;
        if power.read_only_at.is_some_and(|read_only_at| power.steps >= read_only_at) {
            return Err(Fault::ReadOnly);
        }
        power.gone = power.cut_at.is_some_and(|cut_at| power.steps >= cut_at);
        Ok(power.gone)
    }

    fn change(&mut self, ino: Ino, change: Change) -> Result<(), Fault> {
        self.file(ino)?;
        let gone = self.step(ino)?;
        self.clock += 1;
        let clock = self.clock;
        if let Some(Node { body: Body::File(content), .. }) = self.nodes.get_mut(&ino) {
            change.apply(&mut content.seen);
            content.pending.push((clock, change));
        }
        if gone { Err(Fault::NoPower) } else { Ok(()) }
    }

    pub(crate) fn write(&mut self, ino: Ino, at: u64, data: &[u8]) -> Result<(), Fault> {
        self.change(ino, Change::Write(usize::try_from(at).expect("small"), data.to_vec()))
    }

    pub(crate) fn set_len(&mut self, ino: Ino, len: u64) -> Result<(), Fault> {
        self.change(ino, Change::Length(usize::try_from(len).expect("small")))
    }

    /// Makes a file at least so long.
    pub(crate) fn allocate(&mut self, ino: Ino, len: u64) -> Result<(), Fault> {
        let now = self.file(ino)?.seen.len() as u64;
        self.set_len(ino, len.max(now))
    }

    pub(crate) fn zero(&mut self, ino: Ino, from: u64, to: u64) -> Result<(), Fault> {
        let [from, to] = [from, to].map(|at| usize::try_from(at).expect("small"));
        self.change(ino, Change::Zero(from, to))
    }

    pub(crate) fn make(&mut self, dir: Ino, name: &OsStr, mode: u32, body: Body) -> Result<Ino, Fault> {
        if self.dir(dir)?.seen.contains_key(name) {
            return Err(Fault::Exists);
        }
        let world = self.node(dir)?.world;
        let ino = self.add_node(world, mode & 0o777, body);
        self.edit(vec![Edit { dir, name: name.to_owned(), to: Some(ino) }])?;
        Ok(ino)
    }

    pub(crate) fn unlink(&mut self, dir: Ino, name: &OsStr) -> Result<(), Fault> {
        let ino = self.lookup(dir, name)?;
        if let Body::Dir(entries) = &self.node(ino)?.body
            && !entries.seen.is_empty()
        {
            return Err(Fault::NotEmpty);
        }
        self.edit(vec![Edit { dir, name: name.to_owned(), to: None }])
    }

    pub(crate) fn rename(&mut self, from: (Ino, &OsStr), to: (Ino, &OsStr)) -> Result<(), Fault> {
        let ino = self.lookup(from.0, from.1)?;
        self.dir(to.0)?;
        self.edit(vec![
            Edit { dir: from.0, name: from.1.to_owned(), to: None },
            Edit { dir: to.0, name: to.1.to_owned(), to: Some(ino) },
        ])
    }

    fn edit(&mut self, edits: Vec<Edit>) -> Result<(), Fault> {
        let gone = match edits.first() {
            Some(edit) => self.step(edit.dir)?,
            None => return Ok(()),
        };
        self.clock += 1;
        for edit in &edits {
            if let Some(Node { body: Body::Dir(entries), .. }) = self.nodes.get_mut(&edit.dir) {
                set(&mut entries.seen, edit);
            }
        }
        self.entries.insert(self.clock, edits);
        if gone { Err(Fault::NoPower) } else { Ok(()) }
    }

    /// Makes durable what a file holds.
    pub(crate) fn sync(&mut self, ino: Ino) -> Result<(), Fault> {
        self.file(ino)?;
        if self.step(ino)? {
            return Err(Fault::NoPower);
        }
        if let Some(Node { body: Body::File(content), .. }) = self.nodes.get_mut(&ino) {
            for (_, change) in content.pending.drain(..) {
                change.apply(&mut content.durable);
            }
        }
        Ok(())
    }

    /// Makes durable which entries a directory has.
    pub(crate) fn sync_dir(&mut self, ino: Ino) -> Result<(), Fault> {
        self.dir(ino)?;
        if self.step(ino)? {
            return Err(Fault::NoPower);
        }
        // With a change goes every older one of the same entries: they cannot come after it.
        let mut going = BTreeSet::new();
        let mut names = BTreeSet::new();
        for (clock, edits) in self.entries.iter().rev() {
            let goes = edits.iter().any(|edit| edit.dir == ino || names.contains(&(edit.dir, &edit.name)));
            if goes {
                going.insert(*clock);
                names.extend(edits.iter().map(|edit| (edit.dir, &edit.name)));
            }
        }
        for edit in going.iter().filter_map(|clock| self.entries.remove(clock)).flatten() {
            if let Some(Node { body: Body::Dir(entries), .. }) = self.nodes.get_mut(&edit.dir) {
                set(&mut entries.durable, &edit);
            }
        }
        Ok(())
    }

    // -- what a power cut leaves

    /// Makes a new world out of what is left of another one when its power has gone.
    pub(crate) fn survive(&mut self, world: Ino, name: &str, loss: Loss, rng: &mut StdRng) -> Ino {
        let moments = self.unsynced(world);
        let last = (!moments.is_empty()).then(|| moments[rng.random_range(0..moments.len())]);
        let odds = [0.1, 0.5, 0.9][rng.random_range(0..3)];
        let mut fate = Fate { loss, last: last.unwrap_or(0), odds, rng };
        let mut dirs: BTreeMap<Ino, BTreeMap<OsString, Ino>> = BTreeMap::new();
        for (&ino, node) in self.nodes.iter().filter(|(_, node)| node.world == world) {
            if let Body::Dir(entries) = &node.body {
                dirs.insert(ino, entries.durable.clone());
            }
        }
        for (&clock, edits) in &self.entries {
            if edits.iter().all(|edit| dirs.contains_key(&edit.dir)) && fate.keeps(clock) {
                for edit in edits {
                    dirs.get_mut(&edit.dir).into_iter().for_each(|entries| set(entries, edit));
                }
            }
        }
        // A number of its own for all that can still be reached.
        let copy = self.add_world(name);
        let mut numbers = BTreeMap::from([(world, copy)]);
        let mut reached = vec![world];
        while let Some(dir) = reached.pop() {
            let entries = dirs.get(&dir).cloned().unwrap_or_default();
            let mut kept = BTreeMap::new();
            for (name, old) in entries {
                let (mode, body) = match self.nodes.get(&old) {
                    None => continue,
                    Some(Node { mode, body: Body::Dir(_), .. }) => (*mode, Body::Dir(Entries::default())),
                    Some(Node { mode, body: Body::File(content), .. }) => {
                        let bytes = fate.left(content);
                        (*mode, Body::File(Content { seen: bytes.clone(), durable: bytes, pending: vec![] }))
                    }
                };
                let is_dir = matches!(body, Body::Dir(_));
                let number = match numbers.get(&old) {
                    Some(number) => *number,
                    None => self.add_node(copy, mode, body),
                };
                if numbers.insert(old, number).is_none() && is_dir {
                    reached.push(old);
                }
                kept.insert(name, number);
            }
            if let Some(Node { body: Body::Dir(entries), .. }) = self.nodes.get_mut(&numbers[&dir]) {
                entries.seen.clone_from(&kept);
                entries.durable = kept;
            }
        }
        copy
    }

    /// The moments of all changes of a world that were not synced.
    fn unsynced(&self, world: Ino) -> Vec<u64> {
        let mut moments = BTreeSet::new();
        for node in self.nodes.values().filter(|node| node.world == world) {
            if let Body::File(content) = &node.body {
                moments.extend(content.pending.iter().map(|(clock, _)| *clock));
            }
        }
        let of_world = |edit: &Edit| self.nodes.get(&edit.dir).is_some_and(|node| node.world == world);
        let edits = self.entries.iter().filter(|(_, edits)| edits.iter().any(of_world));
        moments.extend(edits.map(|(clock, _)| *clock));
        moments.into_iter().collect()
    }
}

fn set(entries: &mut BTreeMap<OsString, Ino>, edit: &Edit) {
    match edit.to {
        Some(ino) => entries.insert(edit.name.clone(), ino),
        None => entries.remove(&edit.name),
    };
}

/// Decides about each change.
struct Fate<'a> {
    loss: Loss,
    last: u64,
    odds: f64,
    rng: &'a mut StdRng,
}

impl Fate<'_> {
    fn keeps(&mut self, clock: u64) -> bool {
        match self.loss {
            Loss::All => false,
            Loss::Nothing => true,
            Loss::Late => clock < self.last || (clock == self.last && self.rng.random_bool(0.5)),
            Loss::Any => self.rng.random_bool(self.odds),
        }
    }

    /// What a file holds afterwards.
    fn left(&mut self, content: &Content) -> Vec<u8> {
        let mut bytes = content.durable.clone();
        for (clock, change) in &content.pending {
            match (self.loss, change) {
                (Loss::Late, Change::Write(at, data)) if *clock == self.last => {
                    let kept = self.rng.random_range(0..=data.len());
                    put(&mut bytes, *at, &data[..kept]);
                }
                (Loss::Any, Change::Write(at, data)) => self.scatter(&mut bytes, *at, data),
                _ if self.keeps(*clock) => change.apply(&mut bytes),
                _ => {}
            }
        }
        bytes
    }

    fn scatter(&mut self, bytes: &mut Vec<u8>, at: usize, data: &[u8]) {
        let end = at + data.len();
        // A new length may be there before the bytes are.
        if end > bytes.len() && self.rng.random_bool(self.odds) {
            bytes.resize(end, 0);
        }
        let mut from = at;
        while from < end {
            let to = ((from / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
            if self.rng.random_bool(self.odds) {
                put(bytes, from, &data[from - at..to - at]);
            }
            from = to;
        }
    }
}
