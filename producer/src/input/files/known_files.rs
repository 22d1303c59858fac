//! An index of the known files by number, path and identity.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::path::{Path, PathBuf};

use super::file::FileIdentity;
use crate::ledger::FileEntry;

/// The files of a ledger, and those that this walk adds.
#[derive(Default)]
pub(super) struct KnownFiles {
    entries: BTreeMap<u32, FileEntry>,
    by_path: HashMap<PathBuf, BTreeSet<u32>>,
    by_id: HashMap<FileIdentity, BTreeSet<u32>>,
}

impl KnownFiles {
    pub(super) fn new(entries: Vec<FileEntry>) -> Self {
        let mut known = KnownFiles::default();
        for entry in entries {
            known.insert(entry);
        }
        known
    }

    pub(super) fn next_number(&self) -> u32 {
        self.entries.keys().next_back().map_or(0, |last| last + 1)
    }

    pub(super) fn insert(&mut self, entry: FileEntry) {
        let number = entry.number;
        match self.entries.get(&number) {
            Some(was) if was.path == entry.path && was.id == entry.id => {}
            was => {
                if let Some(was) = was {
                    remove(&mut self.by_path, was.path.as_path(), number);
                    if let Some(id) = was.id {
                        remove(&mut self.by_id, &id, number);
                    }
                }
                let at = self.by_path.entry(entry.path.clone()).or_default();
                at.insert(number);
                if let Some(id) = entry.id {
                    self.by_id.entry(id).or_default().insert(number);
                }
            }
        }
        self.entries.insert(number, entry);
    }

    pub(super) fn get(&self, number: u32) -> Option<&FileEntry> {
        self.entries.get(&number)
    }

    pub(super) fn contains(&self, number: u32) -> bool {
        self.entries.contains_key(&number)
    }

    /// All, in the order of their numbers.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &FileEntry> {
        self.entries.values()
    }

    /// Those that were seen last at `path`, in the order of their numbers.
    pub(super) fn at(&self, path: &Path) -> impl DoubleEndedIterator<Item = &FileEntry> {
        self.of(self.by_path.get(path))
    }

    /// Those that are the file `id`, or were, in the order of their numbers.
    pub(super) fn with(&self, id: FileIdentity) -> impl DoubleEndedIterator<Item = &FileEntry> {
        self.of(self.by_id.get(&id))
    }

    fn of<'a>(
        &'a self,
        numbers: Option<&'a BTreeSet<u32>>,
    ) -> impl DoubleEndedIterator<Item = &'a FileEntry> {
        let numbers = numbers.into_iter().flatten();
        numbers.filter_map(|number| self.entries.get(number))
    }
}

fn remove<K, Q>(index: &mut HashMap<K, BTreeSet<u32>>, key: &Q, number: u32)
where
    K: Hash + Eq + Borrow<Q>,
    Q: Hash + Eq + ?Sized,
{
    if let Some(numbers) = index.get_mut(key) {
        numbers.remove(&number);
        if numbers.is_empty() {
            index.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_where_it_is_and_not_where_it_was() {
        let id = |inode| FileIdentity {
            device: 1,
            inode,
            born: None,
        };
        let entry = |number, path: &str, inode| {
            FileEntry::new(number, PathBuf::from(path), Some(id(inode)))
        };
        let mut known = KnownFiles::new(vec![entry(0, "a", 1), entry(4, "a", 2)]);
        assert_eq!(known.next_number(), 5);
        let at = |known: &KnownFiles, path: &str| {
            let numbers = known.at(Path::new(path)).map(|entry| entry.number);
            numbers.collect::<Vec<_>>()
        };
        assert_eq!(at(&known, "a"), [0, 4]);
        known.insert(entry(0, "a.1", 1));
        known.insert(entry(4, "a", 3));
        assert_eq!((at(&known, "a"), at(&known, "a.1")), (vec![4], vec![0]));
        assert_eq!(known.with(id(2)).count(), 0);
        assert_eq!(known.with(id(3)).next().unwrap().number, 4);
        assert_eq!(known.iter().count(), 2);
    }
}
