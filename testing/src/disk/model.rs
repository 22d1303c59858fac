//! Models the page cache, the platter, and what a power cut leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, ErrorKind};
use std::path::{Component, Path};

use bytes::Bytes;

use super::Loss;
use hydrant_core::disk::Listed;

/// The unit of disk writes: a sector survives or is lost as a whole, except the one under the head.
const SECTOR_BYTES: usize = 512;

pub(super) type Inode = u64;

/// The root directory.
pub(super) const ROOT: Inode = 0;

/// One name of one directory.
type Name = (Inode, String);

#[derive(Debug)]
enum FileChange {
    Write { offset: usize, bytes: Bytes },
    Cut { len: usize },
}

#[derive(Debug, Default)]
pub(super) struct File {
    /// The bytes in the page cache, which readers see.
    pub(super) seen: Vec<u8>,
    /// The bytes on the platter, which survive a power cut.
    kept: Vec<u8>,
    /// Changes since the last sync, in order.
    unsynced: Vec<FileChange>,
}

#[derive(Debug)]
pub(super) enum Node {
    File(File),
    Dir(BTreeMap<String, Inode>),
}

impl Node {
    pub(super) fn len(&self) -> u64 {
        match self {
            Node::File(file) => file.seen.len() as u64,
            Node::Dir(_) => 0,
        }
    }
}

/// An operation on names: all its changes survive a power cut, or none do.
#[derive(Debug)]
struct NameChange {
    number: u64,
    changes: Vec<(Name, Option<Inode>)>,
    /// The directories that must still be synced before the change survives for certain.
    unsynced: BTreeSet<Inode>,
}

/// Files and directories.
#[derive(Debug)]
pub(super) struct Model {
    nodes: BTreeMap<Inode, Node>,
    next_inode: Inode,
    /// Names that survive a power cut, each with the number of the last operation on it.
    kept_names: BTreeMap<Name, (u64, Option<Inode>)>,
    unsynced_names: Vec<NameChange>,
    next_change: u64,
    /// The directories that hold a name of a file, once for each name.
    homes: BTreeMap<Inode, Vec<Inode>>,
    /// Rises with each change of a file, or of a directory or a file in it.
    versions: BTreeMap<Inode, u64>,
    modified: BTreeMap<Inode, i64>,
    pub(super) quota: Option<u64>,
    /// Rises with every change that a process can see.
    pub(super) touched: u64,
}

pub(super) fn error(kind: ErrorKind) -> io::Error {
    io::Error::from(kind)
}

impl Model {
    pub(super) fn new() -> Self {
        Model {
            nodes: BTreeMap::from([(ROOT, Node::Dir(BTreeMap::new()))]),
            next_inode: ROOT + 1,
            kept_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            next_change: 1,
            homes: BTreeMap::new(),
            versions: BTreeMap::new(),
            modified: BTreeMap::new(),
            quota: None,
            touched: 0,
        }
    }

    /// The inode of a path; `None` when it does not exist.
    pub(super) fn find(&self, path: &Path) -> io::Result<Option<Inode>> {
        let mut at = ROOT;
        for part in parts(path)? {
            match self.nodes.get(&at) {
                Some(Node::Dir(names)) => match names.get(&part) {
                    Some(inode) => at = *inode,
                    None => return Ok(None),
                },
                _ => return Err(error(ErrorKind::NotADirectory)),
            }
        }
        Ok(Some(at))
    }

    pub(super) fn find_or_fail(&self, path: &Path) -> io::Result<Inode> {
        self.find(path)?.ok_or_else(|| error(ErrorKind::NotFound))
    }

    /// The directory of a path and the name in it.
    fn home_of(&self, path: &Path) -> io::Result<Name> {
        let mut parts = parts(path)?;
        let name = parts.pop().ok_or_else(|| error(ErrorKind::InvalidInput))?;
        let home = self.find_or_fail(&parts.iter().collect::<std::path::PathBuf>())?;
        match self.nodes.get(&home) {
            Some(Node::Dir(_)) => Ok((home, name)),
            _ => Err(error(ErrorKind::NotADirectory)),
        }
    }

    pub(super) fn node(&self, inode: Inode) -> io::Result<&Node> {
        self.nodes
            .get(&inode)
            .ok_or_else(|| error(ErrorKind::NotFound))
    }

    /// Lists the names of a directory whose place in the directory `is_wanted`. The place is a hash: the system orders
    /// names arbitrarily.
    pub(super) fn list(
        &self,
        dir: Inode,
        is_wanted: impl Fn(u64) -> bool,
    ) -> io::Result<Vec<Listed>> {
        let Node::Dir(names) = self.node(dir)? else {
            return Err(error(ErrorKind::NotADirectory));
        };
        let place = |name: &str| {
            let mut hash = DefaultHasher::new();
            (dir, name).hash(&mut hash);
            hash.finish()
        };
        let wanted = names.iter().filter(|(name, _)| is_wanted(place(name)));
        let listed = wanted.map(|(name, inode)| {
            let node = self.node(*inode)?;
            Ok(Listed {
                name: name.clone(),
                is_dir: matches!(node, Node::Dir(_)),
                len: node.len(),
                identity: *inode,
                modified: self.modified(*inode),
            })
        });
        listed.collect()
    }

    pub(super) fn file(&self, inode: Inode) -> io::Result<&File> {
        match self.node(inode)? {
            Node::File(file) => Ok(file),
            Node::Dir(_) => Err(error(ErrorKind::IsADirectory)),
        }
    }

    fn file_mut(&mut self, inode: Inode) -> io::Result<&mut File> {
        match self.nodes.get_mut(&inode) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(error(ErrorKind::IsADirectory)),
            None => Err(error(ErrorKind::NotFound)),
        }
    }

    pub(super) fn version(&self, inode: Inode) -> u64 {
        self.versions.get(&inode).copied().unwrap_or(0)
    }

    pub(super) fn modified(&self, inode: Inode) -> i64 {
        self.modified.get(&inode).copied().unwrap_or(0)
    }

    fn touch(&mut self, inode: Inode, now: i64) {
        self.touched += 1;
        self.modified.insert(inode, now);
        *self.versions.entry(inode).or_default() += 1;
        for home in self.homes.get(&inode).cloned().unwrap_or_default() {
            *self.versions.entry(home).or_default() += 1;
        }
    }

    pub(super) fn create(&mut self, path: &Path, now: i64) -> io::Result<Inode> {
        let name = self.home_of(path)?;
        let inode = self.new_node(Node::File(File::default()));
        self.change_names(vec![(name, Some(inode))], now);
        self.touch(inode, now);
        Ok(inode)
    }

    fn new_node(&mut self, node: Node) -> Inode {
        let inode = self.next_inode;
        self.next_inode += 1;
        self.nodes.insert(inode, node);
        inode
    }

    /// Creates the missing directories of a path, and answers the directories with a new name: the names survive once
    /// these are synced.
    pub(super) fn create_dir_all(&mut self, path: &Path, now: i64) -> io::Result<Vec<Inode>> {
        let mut at = ROOT;
        let mut homes = Vec::new();
        for part in parts(path)? {
            let found = match self.nodes.get(&at) {
                Some(Node::Dir(names)) => names.get(&part).copied(),
                _ => return Err(error(ErrorKind::NotADirectory)),
            };
            at = match found {
                Some(inode) => inode,
                None => {
                    let inode = self.new_node(Node::Dir(BTreeMap::new()));
                    self.change_names(vec![((at, part), Some(inode))], now);
                    homes.push(at);
                    inode
                }
            };
        }
        match self.node(at)? {
            Node::Dir(_) => Ok(homes),
            Node::File(_) => Err(error(ErrorKind::AlreadyExists)),
        }
    }

    pub(super) fn remove(&mut self, path: &Path, now: i64) -> io::Result<()> {
        let inode = self.find_or_fail(path)?;
        self.file(inode)?;
        let name = self.home_of(path)?;
        self.change_names(vec![(name, None)], now);
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, path: &Path, now: i64) -> io::Result<()> {
        let inode = self.find_or_fail(path)?;
        match self.node(inode)? {
            Node::File(_) => return Err(error(ErrorKind::NotADirectory)),
            Node::Dir(names) if !names.is_empty() => {
                return Err(error(ErrorKind::DirectoryNotEmpty));
            }
            Node::Dir(_) => {}
        }
        let name = self.home_of(path)?;
        self.change_names(vec![(name, None)], now);
        Ok(())
    }

    pub(super) fn rename(
        &mut self,
        from: &Path,
        to: &Path,
        replace: bool,
        now: i64,
    ) -> io::Result<()> {
        let inode = self.find_or_fail(from)?;
        let target = self.find(to)?;
        if target.is_some() && !replace {
            return Err(error(ErrorKind::AlreadyExists));
        }
        if let Some(Node::Dir(_)) = target.and_then(|target| self.nodes.get(&target)) {
            return Err(error(ErrorKind::IsADirectory));
        }
        if target == Some(inode) {
            // Two names of one file: the kernel does nothing.
            return Ok(());
        }
        let (from, to) = (self.home_of(from)?, self.home_of(to)?);
        self.change_names(vec![(from, None), (to, Some(inode))], now);
        Ok(())
    }

    pub(super) fn link(&mut self, from: &Path, to: &Path, now: i64) -> io::Result<()> {
        let inode = self.find_or_fail(from)?;
        self.file(inode)?;
        if self.find(to)?.is_some() {
            return Err(error(ErrorKind::AlreadyExists));
        }
        let to = self.home_of(to)?;
        self.change_names(vec![(to, Some(inode))], now);
        Ok(())
    }

    fn change_names(&mut self, changes: Vec<(Name, Option<Inode>)>, now: i64) {
        let homes = changes.iter().map(|((home, _), _)| *home).collect();
        for ((home, name), inode) in &changes {
            self.set_seen_name(*home, name, *inode);
            self.touch(*home, now);
        }
        self.unsynced_names.push(NameChange {
            number: self.next_change,
            changes,
            unsynced: homes,
        });
        self.next_change += 1;
    }

    fn set_seen_name(&mut self, home: Inode, name: &str, inode: Option<Inode>) {
        let Some(Node::Dir(names)) = self.nodes.get_mut(&home) else {
            return;
        };
        let before = match inode {
            Some(inode) => names.insert(name.to_owned(), inode),
            None => names.remove(name),
        };
        if let Some(homes) = before.and_then(|before| self.homes.get_mut(&before))
            && let Some(index) = homes.iter().position(|known| *known == home)
        {
            homes.remove(index);
        }
        if let Some(inode) = inode {
            self.homes.entry(inode).or_default().push(home);
        }
    }

    /// Makes the names of a directory survive, unless the operation that made them also touched an unsynced directory.
    pub(super) fn sync_names(&mut self, home: Inode) {
        for change in &mut self.unsynced_names {
            change.unsynced.remove(&home);
        }
        let changes = std::mem::take(&mut self.unsynced_names);
        let (done, rest) = changes
            .into_iter()
            .partition(|change| change.unsynced.is_empty());
        self.unsynced_names = rest;
        debug_assert!(
            self.unsynced_names
                .iter()
                .all(|change| !change.unsynced.contains(&home)),
            "no change waits for a directory that was synced"
        );
        self.keep_names(done);
    }

    fn keep_names(&mut self, changes: Vec<NameChange>) {
        for change in changes {
            for (name, inode) in change.changes {
                let kept = self.kept_names.entry(name).or_insert((0, None));
                if change.number > kept.0 {
                    *kept = (change.number, inode);
                }
            }
        }
    }

    /// Writes as much as the quota allows; answers `Ok(false)` when bytes are left.
    pub(super) fn write(
        &mut self,
        inode: Inode,
        offset: u64,
        bytes: Bytes,
        now: i64,
    ) -> io::Result<bool> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let len = self.file(inode)?.seen.len();
        let room = match self.quota {
            None => usize::MAX,
            Some(quota) => {
                let free = quota.saturating_sub(self.used_bytes());
                len.saturating_add(usize::try_from(free).unwrap_or(usize::MAX))
            }
        };
        let fits = bytes.len().min(room.saturating_sub(offset));
        let written = bytes.slice(..fits);
        let file = self.file_mut(inode)?;
        overlay(&mut file.seen, offset, &written);
        file.unsynced.push(FileChange::Write {
            offset,
            bytes: written,
        });
        self.touch(inode, now);
        Ok(fits == bytes.len())
    }

    pub(super) fn cut(&mut self, inode: Inode, len: u64, now: i64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let file = self.file_mut(inode)?;
        file.seen.resize(len, 0);
        file.unsynced.push(FileChange::Cut { len });
        self.touch(inode, now);
        Ok(())
    }

    pub(super) fn sync(&mut self, inode: Inode) -> io::Result<()> {
        let file = self.file_mut(inode)?;
        for change in std::mem::take(&mut file.unsynced) {
            match change {
                FileChange::Write { offset, bytes } => overlay(&mut file.kept, offset, &bytes),
                FileChange::Cut { len } => file.kept.resize(len, 0),
            }
        }
        Ok(())
    }

    /// Fails a sync: some of the bytes reach the platter, and a later sync writes none of the others.
    pub(super) fn fail_sync(&mut self, inode: Inode, loss: Loss, rng: &mut fastrand::Rng) {
        if let Ok(file) = self.file_mut(inode) {
            file.lose(loss, rng);
        }
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let lens = self
            .homes
            .iter()
            .filter_map(|(inode, homes)| match self.nodes.get(inode) {
                Some(Node::File(file)) if !homes.is_empty() => Some(file.seen.len() as u64),
                _ => None,
            });
        lens.sum()
    }

    /// Loses what only the page cache holds, as far as `loss` says.
    pub(super) fn power_cut(&mut self, loss: Loss, rng: &mut fastrand::Rng) {
        let changes = std::mem::take(&mut self.unsynced_names);
        let survivors = changes.into_iter().filter(|_| loss.keeps(rng)).collect();
        self.keep_names(survivors);
        for node in self.nodes.values_mut() {
            match node {
                Node::File(file) => {
                    file.lose(loss, rng);
                    file.seen.clone_from(&file.kept);
                }
                Node::Dir(names) => names.clear(),
            }
        }
        self.homes.clear();
        let names: Vec<_> = self
            .kept_names
            .iter()
            .filter_map(|((home, name), (_, inode))| Some((*home, name.clone(), (*inode)?)))
            .collect();
        for (home, name, inode) in names {
            self.set_seen_name(home, &name, Some(inode));
        }
        self.drop_unreachable();
    }

    fn drop_unreachable(&mut self) {
        let mut reached = BTreeSet::from([ROOT]);
        let mut open = vec![ROOT];
        while let Some(at) = open.pop() {
            if let Some(Node::Dir(names)) = self.nodes.get(&at) {
                open.extend(
                    names
                        .values()
                        .copied()
                        .filter(|inode| reached.insert(*inode)),
                );
            }
        }
        self.nodes.retain(|inode, _| reached.contains(inode));
        self.homes.retain(|inode, _| reached.contains(inode));
        self.kept_names
            .retain(|(home, _), _| reached.contains(home));
    }
}

impl File {
    /// Decides which unsynced changes reached the platter: any set of sectors, one of them torn, and the length after
    /// any of the changes.
    fn lose(&mut self, loss: Loss, rng: &mut fastrand::Rng) {
        let changes = std::mem::take(&mut self.unsynced);
        let lengths_kept = match loss {
            Loss::Nothing => changes.len(),
            Loss::Everything => 0,
            Loss::Some => rng.usize(..=changes.len()),
        };
        let mut len = self.kept.len();
        let mut last_kept = None;
        for (n, change) in changes.iter().enumerate() {
            let counts = n < lengths_kept;
            match change {
                FileChange::Write { offset, bytes } => {
                    for (start, end) in sectors(*offset, bytes.len()) {
                        if loss.keeps(rng) {
                            let part = bytes.slice(start - offset..end - offset);
                            last_kept = Some((start, self.sector_before(start, end)));
                            overlay(&mut self.kept, start, &part);
                        }
                    }
                    if counts {
                        len = len.max(offset + bytes.len());
                    }
                }
                FileChange::Cut { len: cut } if counts => {
                    len = *cut;
                    self.kept.truncate(*cut);
                    last_kept = None;
                }
                FileChange::Cut { .. } => {}
            }
        }
        if let (Loss::Some, Some((start, before))) = (loss, last_kept) {
            let torn_after = rng.usize(..=before.len());
            overlay(&mut self.kept, start + torn_after, &before[torn_after..]);
        }
        self.kept.resize(len, 0);
    }

    fn sector_before(&self, start: usize, end: usize) -> Vec<u8> {
        let mut before: Vec<u8> = self
            .kept
            .get(start.min(self.kept.len())..end.min(self.kept.len()))
            .unwrap_or_default()
            .to_vec();
        before.resize(end - start, 0);
        before
    }
}

impl Loss {
    fn keeps(self, rng: &mut fastrand::Rng) -> bool {
        match self {
            Loss::Nothing => true,
            Loss::Everything => false,
            Loss::Some => rng.bool(),
        }
    }
}

/// The parts of a write that lie in one sector each.
fn sectors(offset: usize, len: usize) -> impl Iterator<Item = (usize, usize)> {
    let end = offset + len;
    let mut at = offset;
    std::iter::from_fn(move || {
        let start = at;
        at = ((start / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
        (start < end).then_some((start, at))
    })
}

fn overlay(target: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    if target.len() < offset + bytes.len() {
        target.resize(offset + bytes.len(), 0);
    }
    target[offset..offset + bytes.len()].copy_from_slice(bytes);
}

fn parts(path: &Path) -> io::Result<Vec<String>> {
    path.components()
        .filter(|part| !matches!(part, Component::RootDir | Component::CurDir))
        .map(|part| match part {
            Component::Normal(name) => Ok(name.to_string_lossy().into_owned()),
            _ => Err(error(ErrorKind::InvalidInput)),
        })
        .collect()
}
