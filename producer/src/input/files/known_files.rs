//! An index of the known files by number, path and identity.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::path::{Path, PathBuf};

use super::file::FileIdentity;
use crate::ledger::FileEntry;

/// How many files that have ended are remembered, so that a copy of one is known.
const ENDED_MAX: usize = 4_096;

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
        let was = self.entries.get(&number);
        if was.is_none_or(|was| was.path != entry.path || was.id != entry.id) {
            self.remove(number);
            let at = self.by_path.entry(entry.path.clone()).or_default();
            at.insert(number);
            if let Some(id) = entry.id {
                self.by_id.entry(id).or_default().insert(number);
            }
        }
        self.entries.insert(number, entry);
    }

    fn remove(&mut self, number: u32) {
        if let Some(was) = self.entries.remove(&number) {
            remove(&mut self.by_path, was.path.as_path(), number);
            if let Some(id) = was.id {
                remove(&mut self.by_id, &id, number);
            }
        }
    }

    /// Forgets the oldest files that have ended and are not there any more; answers their numbers. Of a file that was
    /// truncated and read again, the last entry is what is there.
    pub(super) fn forget(&mut self, is_there: impl Fn(&FileEntry) -> bool) -> Vec<u32> {
        let ended = || self.entries.values().filter(|file| file.ended);
        let is_last = |file: &FileEntry| {
            let last = self.at(&file.path).next_back();
            last.is_some_and(|last| last.number == file.number)
        };
        let over = ended().count().saturating_sub(ENDED_MAX);
        let forgotten = ended().filter(|file| !(is_last(file) && is_there(file)));
        let numbers: Vec<u32> = forgotten.map(|file| file.number).take(over).collect();
        for number in &numbers {
            self.remove(*number);
        }
        numbers
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
    fn ended(number: u32, path: String) -> FileEntry {
        FileEntry {
            ended: true,
            ..FileEntry::new(number, PathBuf::from(path), None)
        }
    }

    #[test]
    fn of_many_files_that_have_ended_the_oldest_that_are_gone_are_forgotten() {
        let mut files = vec![FileEntry::new(0, PathBuf::from("/f0"), None)];
        files.extend((1..=ENDED_MAX as u32 + 3).map(|n| ended(n, format!("/f{n}"))));
        files.push(FileEntry::new(9_999, PathBuf::from("/f9999"), None));
        let mut known = KnownFiles::new(files);
        assert_eq!(known.forget(|file| file.number == 2), [1, 3, 4]);
        let numbers: Vec<u32> = known.iter().map(|file| file.number).collect();
        assert_eq!(numbers.len(), ENDED_MAX + 2);
        assert_eq!(
            (&numbers[..3], numbers.last()),
            (&[0, 2, 5][..], Some(&9_999))
        );
        assert_eq!(known.at(Path::new("/f1")).count(), 0);
        assert!(known.forget(|_| false).is_empty());
    }

    #[test]
    fn of_a_file_that_was_truncated_again_and_again_the_oldest_entries_are_forgotten() {
        let files = (0..=ENDED_MAX as u32 + 3).map(|n| ended(n, "/f".to_owned()));
        let mut known = KnownFiles::new(files.collect());
        assert_eq!(known.forget(|_| true), [0, 1, 2, 3]);
        assert_eq!(known.iter().count(), ENDED_MAX);
    }
}
