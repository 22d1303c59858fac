//! Files that grow while they are read: `--follow`.
//!
//! Owns the round: look for new files, then read what each file has, the older ones first, so that a file that was
//! renamed is read to its end before the one that took its path. Between rounds it sleeps until a directory changes,
//! or for a second where the system reports no changes (network file systems), and never spins. A file that was renamed is
//! read on for as long as its writer may have it open. Of more files than may be open at once, those that were quiet
//! longest are closed until they grow.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::Duration;

use hydrant_core::clock::{self, Instant};
use hydrant_core::{Error, Result};

use super::closed::{ClosedFile, FileLook, warn_failed};
use super::{FoundFiles, InputWalk, QUIET, warn_replaced};
use crate::input::AtEnd;
use crate::input::files::file::{self, FileIdentity, FileTail};
use crate::input::files::open_file::{ConsumerGone, OpenFile, ReadOutcome};
use crate::input::files::watch::DirectoryWatch;
use crate::input::files::{glob, listing, rotation};

/// Blocks of one file before the next one has its turn: 4 MiB at most.
const TURN_BLOCKS: u32 = 16;

/// How long a file that has no name any more may be quiet before it is left; one that has a name, [`QUIET`].
const QUIET_REMOVED: Duration = Duration::from_secs(5);

/// How often files that have ended are looked at, to forget those that are gone.
const FORGET: Duration = Duration::from_secs(60);

/// Files that are open at once: each costs a descriptor.
const OPEN_MAX: usize = 512;

struct Followed {
    live: OpenFile<FileTail>,
    /// When it brought something last.
    since: Instant,
    is_at_path: bool,
    /// Whether it was read to its end since it is known, or since another file took its path.
    is_read: bool,
    /// What it looked like at the last look, and at the one after which it was read to its end.
    look: FileLook,
    look_read: Option<FileLook>,
    /// The file whose path it took, which is read to its end first.
    behind: Option<u32>,
}

impl Followed {
    fn new(live: OpenFile<FileTail>, is_at_path: bool, behind: Option<u32>) -> Self {
        Followed {
            live,
            since: clock::now(),
            is_at_path,
            is_read: false,
            look: FileLook::default(),
            look_read: None,
            behind,
        }
    }
}

/// The newest file that had `path`, as it is or as an input leads to it, before the file `number`: it is read to its end
/// before that one.
fn former(files: &mut [Followed], path: &Path, input: &Path, number: u32) -> Option<u32> {
    let had = |one: &&mut Followed| {
        let entry = &one.live.entry;
        entry.number < number && (entry.path == path || entry.input == input)
    };
    let former = files.iter_mut().filter(had);
    let former = former.max_by_key(|one| one.live.entry.number)?;
    former.is_read = false;
    Some(former.live.entry.number)
}

/// Whether no file is followed twice.
fn is_each_once(files: &[Followed]) -> bool {
    let numbers: BTreeSet<u32> = files.iter().map(|one| one.live.entry.number).collect();
    numbers.len() == files.len()
}

/// Follows files that are at no input's path.
fn follow_rests(files: &mut Vec<Followed>, rests: FoundFiles) {
    for live in rests {
        let entry = &live.entry;
        let behind = former(files, &entry.path, &entry.input, entry.number);
        files.push(Followed::new(live, false, behind));
    }
}

/// Whether a file that is at no input's path is left, after it was quiet for so long.
fn is_left(is_linked: bool, quiet: Duration) -> bool {
    quiet >= if is_linked { QUIET } else { QUIET_REMOVED }
}

enum FollowTurn {
    Busy,
    Idle,
    Over,
}

impl InputWalk {
    pub(super) fn follow(&mut self) -> Result<(), ConsumerGone> {
        self.check_followed();
        self.refuse_failed()?;
        let rests = self.take_up()?;
        self.refuse_failed()?;
        let mut files = Vec::new();
        follow_rests(&mut files, rests);
        let mut watch = DirectoryWatch::new();
        let mut forgets = clock::now();
        loop {
            if clock::now() >= forgets {
                self.forget()?;
                forgets = clock::now() + FORGET;
            }
            let mut busy = self.discover(&mut files, &mut watch)?;
            let mut n = 0;
            while n < files.len() {
                let waits = files[n].behind.is_some_and(|number| {
                    let mut former = files
                        .iter()
                        .filter(|former| former.live.entry.number == number);
                    former.any(|former| !former.is_read)
                });
                if waits {
                    n += 1;
                    continue;
                }
                match self.turn(&mut files[n])? {
                    FollowTurn::Over => {
                        files.remove(n);
                        busy = true;
                        continue;
                    }
                    FollowTurn::Busy => busy = true,
                    FollowTurn::Idle => {}
                }
                n += 1;
            }
            debug_assert!(
                is_each_once(&files),
                "a file is followed once: {:?}",
                self.open
            );
            if self.sender.chunks.is_closed() {
                return Err(ConsumerGone);
            }
            if !busy {
                watch.wait();
            }
        }
    }

    /// Refuses inputs that cannot be followed or looked at, and warns of those that have no file yet.
    fn check_followed(&mut self) {
        for input in self.inputs.clone() {
            let text = input.display();
            let found = self.own.expand(&input);
            let mut failed: Vec<Error> = found.failed.into_iter().map(Error::from).collect();
            let mut is_there = false;
            for path in found.files {
                match std::fs::metadata(&path) {
                    Ok(found) if !found.is_file() => failed.push(Error::refused(format!(
                        "`{text}` cannot be followed, since it is not a file: name files, such as `{text}/*`, or read a \
                         pipe without `--follow`"
                    ))),
                    Ok(_) => is_there = true,
                    Err(error) if glob::is_absence(&error) => {}
                    Err(error) => failed.push(unlookable(&path, error)),
                }
            }
            if failed.is_empty() && !is_there {
                tracing::warn!(
                    input = %text,
                    "no file exists for this input yet, so the producer waits for one: check the path if it should exist"
                );
            }
            for error in failed {
                self.fail(error);
            }
        }
    }

    /// Ends the walk if something failed before it follows anything.
    fn refuse_failed(&mut self) -> Result<(), ConsumerGone> {
        match self.failures.end(self.has_sent) {
            None => Ok(()),
            Some(error) => {
                self.sender.fail(error);
                Err(ConsumerGone)
            }
        }
    }

    /// Warns once of what cannot be looked at, and again when it could be in between.
    fn warn_unseen(&mut self, failed: Vec<Error>) {
        let mut unseen = BTreeSet::new();
        for error in failed {
            let report = error.report();
            if !self.unseen.contains(&report) && !unseen.contains(&report) {
                tracing::warn!("{report}: the producer keeps trying");
            }
            unseen.insert(report);
        }
        self.unseen = unseen;
    }

    /// Opens new files, and notes where the known ones are; answers whether a file was opened.
    fn discover(
        &mut self,
        files: &mut Vec<Followed>,
        watch: &mut DirectoryWatch,
    ) -> Result<bool, ConsumerGone> {
        let mut at = Vec::new();
        let mut places = BTreeMap::new();
        let mut failed = Vec::new();
        for input in &self.inputs {
            let found = self.own.expand(input);
            watch.add(glob::directories(input, &found.files));
            failed.extend(found.failed.into_iter().map(Error::from));
            for path in found.files {
                match std::fs::metadata(&path) {
                    Ok(metadata) => {
                        if let Some(id) = FileIdentity::of(&metadata) {
                            places.entry(id).or_insert(at.len());
                            at.push((id, path, FileLook::of(&metadata)));
                        }
                    }
                    Err(error) if glob::is_absence(&error) => {}
                    Err(error) => failed.push(unlookable(&path, error)),
                }
            }
        }
        self.warn_unseen(failed);
        for followed in files.iter_mut() {
            let place = followed.live.entry.id.and_then(|id| places.get(&id));
            followed.is_at_path = place.is_some();
            if let Some((_, path, look)) = place.map(|place| &at[*place]) {
                let path = file::real_path(path);
                followed.look = *look;
                if followed.live.entry.path != path {
                    followed.live.entry.path = path;
                    self.remember(&followed.live);
                }
            }
        }
        let open: BTreeSet<FileIdentity> =
            files.iter().filter_map(|one| one.live.entry.id).collect();
        self.seen
            .retain(|id| places.contains_key(id) || open.contains(id));
        self.open = files.iter().map(|one| one.live.entry.number).collect();
        let room = OPEN_MAX.saturating_sub(files.len());
        let rests = self.find_closed(|id| places.contains_key(id), room)?;
        let has_rests = !rests.is_empty();
        follow_rests(files, rests);
        let mut is_new = false;
        let mut taken = BTreeSet::new();
        for (id, path, look) in at {
            // An empty file may become anything, also a copy that is being made.
            let is_closed = self
                .closed
                .get(&id)
                .is_some_and(|closed| closed.holds(look));
            if self.seen.contains(&id) || is_closed || look.size == 0 {
                continue;
            }
            // It is looked at once the ledger knows the file that it may be a copy of.
            let real = file::real_path(&path);
            if rotation::originals(&real)
                .iter()
                .any(|one| taken.contains(one))
            {
                continue;
            }
            // The others wait until some were read to their ends.
            if files.len() >= OPEN_MAX && !self.make_room(files) {
                break;
            }
            if self.continues(&real, id, look, files)? {
                taken.insert(real);
                continue;
            }
            if !std::mem::replace(&mut is_new, true) {
                self.find_gone();
            }
            self.open = files.iter().map(|one| one.live.entry.number).collect();
            let visited = self.visit(&path);
            self.note_left()?;
            match visited {
                // It is a copy, which has nothing to read unless it grows.
                Ok(found) if found.is_empty() && self.seen.remove(&id) => {
                    let closed = match self.making.remove(&id) {
                        true => ClosedFile::failed(look, None),
                        false => ClosedFile::copy(look),
                    };
                    self.closed.insert(id, closed);
                }
                Ok(found) => {
                    if !found.is_empty() {
                        taken.insert(real.clone());
                    }
                    let mut before = None;
                    for live in found {
                        let number = live.entry.number;
                        // What is read on in its copy is another file from now on.
                        files.retain(|followed| {
                            let is_other = followed.live.entry.number != number;
                            let was = followed.live.entry.id.filter(|_| !is_other);
                            if was != live.entry.id {
                                was.map(|id| self.seen.remove(&id));
                            }
                            is_other
                        });
                        let is_at_path = live.entry.path == real;
                        let behind = former(files, &real, &live.entry.input, number);
                        let behind = behind.max(before.replace(number));
                        let mut followed = Followed::new(live, is_at_path, behind);
                        followed.look = look;
                        files.push(followed);
                    }
                }
                // It went between two looks.
                Err(_) if path.try_exists().is_ok_and(|is_there| !is_there) => {
                    self.seen.remove(&id);
                }
                Err(error) => {
                    warn_failed(&error);
                    self.seen.remove(&id);
                    let known = self.known.with(id).next_back().cloned();
                    self.closed.insert(id, ClosedFile::failed(look, known));
                }
            }
        }
        Ok(has_rests || !taken.is_empty())
    }

    /// Whether the new file at `path` is read on from where the one is that was there and has no name any more, since it
    /// begins with all of it, as `rsync` and editors leave it.
    fn continues(
        &mut self,
        path: &Path,
        id: FileIdentity,
        look: FileLook,
        files: &mut Vec<Followed>,
    ) -> Result<bool, ConsumerGone> {
        let was_replaced = |one: &Followed| {
            let is_linked = || one.live.reader.plain().is_none_or(FileTail::is_linked);
            !one.is_at_path && one.live.entry.path == path && !is_linked()
        };
        let Some(n) = files.iter().position(was_replaced) else {
            return Ok(false);
        };
        // What it still holds was there before the new one.
        loop {
            match self.turn(&mut files[n])? {
                FollowTurn::Busy => {}
                FollowTurn::Idle => break,
                FollowTurn::Over => {
                    files.remove(n);
                    return Ok(false);
                }
            }
        }
        let Ok(Some(live)) = self.resume(path, id, files[n].live.entry.clone()) else {
            return Ok(false);
        };
        warn_replaced(&live);
        self.remember(&live);
        self.seen.insert(id);
        let followed = Followed {
            look,
            ..Followed::new(live, true, files[n].behind)
        };
        let former = std::mem::replace(&mut files[n], followed);
        former.live.entry.id.map(|id| self.seen.remove(&id));
        Ok(true)
    }

    /// Closes the file that was quiet longest until it grows, since its place is known; `false` when none is quiet.
    fn make_room(&mut self, files: &mut Vec<Followed>) -> bool {
        let quiet = |one: &&(usize, &Followed)| {
            one.1.is_at_path && one.1.is_read && one.1.look_read == Some(one.1.look)
        };
        let longest = (files.iter().enumerate())
            .filter(|one| quiet(&one))
            .min_by_key(|one| one.1.since);
        let Some((n, _)) = longest else {
            return false;
        };
        let Followed { live, look, .. } = files.remove(n);
        self.close(&live, ClosedFile::read(look, &live));
        if !std::mem::replace(&mut self.is_crowded, true) {
            tracing::warn!(
                "more than {OPEN_MAX} files are followed: quiet ones are closed, and read again from their starts when \
                 they grow; give some of them to another producer if that takes too long"
            );
        }
        true
    }

    fn turn(&mut self, followed: &mut Followed) -> Result<FollowTurn, ConsumerGone> {
        let live = &mut followed.live;
        for _ in 0..TURN_BLOCKS {
            let read = live.step(&mut self.sender)?;
            self.remember(live);
            match read {
                ReadOutcome::Block => followed.since = clock::now(),
                ReadOutcome::End
                    if live.is_copy || live.reader.is_compressed() && !followed.is_at_path =>
                {
                    self.leave_behind(live)?;
                    return Ok(FollowTurn::Over);
                }
                ReadOutcome::End if live.reader.is_compressed() => {
                    self.finish(live)?;
                    self.close(live, ClosedFile::read(followed.look, live));
                    return Ok(FollowTurn::Over);
                }
                ReadOutcome::End => {
                    let quiet = followed.since.elapsed();
                    let is_linked = || live.reader.plain().is_some_and(FileTail::is_linked);
                    if !followed.is_at_path && quiet >= QUIET_REMOVED && is_left(is_linked(), quiet)
                    {
                        self.leave_behind(live)?;
                        return Ok(FollowTurn::Over);
                    }
                    followed.is_read = true;
                    followed.look_read = Some(followed.look);
                    return Ok(FollowTurn::Idle);
                }
                ReadOutcome::Truncated => {
                    // The next look finds what it was and what it is.
                    self.close(live, ClosedFile::changed(live.entry.clone()));
                    return Ok(FollowTurn::Over);
                }
                ReadOutcome::Failed(error) => {
                    warn_failed(&error.into());
                    let look = match followed.is_at_path {
                        true => followed.look,
                        false => std::fs::metadata(&live.entry.path)
                            .map_or_else(|_| followed.look, |found| FileLook::of(&found)),
                    };
                    let entry = Some(live.entry.clone());
                    self.close(live, ClosedFile::failed(look, entry));
                    return Ok(FollowTurn::Over);
                }
            }
        }
        Ok(FollowTurn::Busy)
    }

    /// Marks a file as closed until it is written to, or until it is looked at again.
    fn close(&mut self, live: &OpenFile<FileTail>, how: ClosedFile) {
        if let Some(id) = live.entry.id {
            self.closed.insert(id, how);
            self.seen.remove(&id);
        }
    }

    /// Sends what stays unfinished of a file that does not grow, or warns of it.
    fn finish(&mut self, live: &mut OpenFile<FileTail>) -> Result<(), ConsumerGone> {
        if self.reading.at_end == AtEnd::Send {
            match live.reader.finish() {
                Ok(Some(block)) => live.send(block, &mut self.sender)?,
                Ok(None) => {}
                Err(error) => warn_failed(&error.into()),
            }
        }
        live.warn_unfinished();
        self.remember(live);
        Ok(())
    }

    /// Leaves a file that is at no path any more.
    fn leave_behind(&mut self, live: &mut OpenFile<FileTail>) -> Result<(), ConsumerGone> {
        self.finish(live)?;
        if let Some(id) = live
            .entry
            .id
            .filter(|id| FileIdentity::at(&live.entry.path) != Some(*id))
        {
            let others = listing::beside(&live.entry.path).unwrap_or_default();
            if let Some(now) = others
                .into_iter()
                .find(|now| FileIdentity::at(now) == Some(id))
            {
                let was = live.entry.clone();
                live.entry.path = now;
                live.leads_from(&was);
            }
        }
        live.end();
        if live.is_opened || self.known.contains(live.entry.number) {
            self.sender.note(&live.entry)?;
            self.known.insert(live.entry.clone());
        }
        Ok(())
    }
}

fn unlookable(path: &Path, error: io::Error) -> Error {
    Error::refused(format!(
        "cannot look at `{}`: {error}: grant this user the permission, or repair or remove it",
        path.display()
    ))
}

#[cfg(test)]
#[test]
fn a_file_that_was_renamed_is_left_when_its_writer_is_gone_for_sure() {
    assert!(!is_left(true, QUIET_REMOVED) && !is_left(true, QUIET / 2) && is_left(true, QUIET));
    assert!(!is_left(false, QUIET_REMOVED / 2) && is_left(false, QUIET_REMOVED));
}
