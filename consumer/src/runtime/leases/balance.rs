//! Decides how many shards each worker should hold. Every worker decides for itself, from the same rows.
//!
//! A worker takes free shards up to its fair share, `ceil(shards / workers)`. A shard that stays free for longer than
//! a lease time may be taken by any worker. A worker that holds fewer shards asks the worker that holds most to hand
//! one over, one at a time, and only when that makes the two loads more equal by at least two. Each such move lowers
//! the sum of the squares of all loads, so moves come to an end and no shard goes back and forth. The worker that is
//! asked decides again from its own view.

use std::collections::BTreeMap;

use hydrant_core::random::Random;
use hydrant_core::shard::ShardId;

/// A shard that can be worked on now.
#[derive(Clone, Debug)]
pub(crate) struct WorkableShard {
    pub(crate) shard: ShardId,
    /// The live worker that holds the shard, or for which it is reserved.
    pub(crate) holder: Option<String>,
    /// A live worker that has asked for the shard.
    pub(crate) wanted: Option<String>,
    /// The shard has been free for longer than a lease time.
    pub(crate) neglected: bool,
}

/// The workable shards and the load of each worker, as one worker sees them.
#[derive(Clone, Debug)]
pub(crate) struct BalanceView {
    me: String,
    shards: Vec<WorkableShard>,
    loads: BTreeMap<String, usize>,
}

impl BalanceView {
    /// Counts the loads of all workers that hold or want one of `shards`, which are sorted by name.
    pub(crate) fn new(me: &str, shards: Vec<WorkableShard>) -> Self {
        let mut loads = BTreeMap::from([(me.to_owned(), 0)]);
        for shard in &shards {
            if let Some(holder) = &shard.holder {
                *loads.entry(holder.clone()).or_default() += 1;
            }
            if let Some(wanted) = &shard.wanted {
                loads.entry(wanted.clone()).or_default();
            }
        }
        BalanceView {
            me: me.to_owned(),
            shards,
            loads,
        }
    }

    fn load(&self, worker: &str) -> usize {
        self.loads.get(worker).copied().unwrap_or(0)
    }

    /// Returns the free shards that this worker may take now, in the order in which it tries them.
    pub(crate) fn shards_to_take(&self, random: &Random) -> Vec<ShardId> {
        let share = self.shards.len().div_ceil(self.loads.len());
        let room = share.saturating_sub(self.load(&self.me));
        let free_or_neglected = self.shards.iter().filter(|shard| shard.holder.is_none());
        let (mut neglected, mut free): (Vec<_>, Vec<_>) =
            free_or_neglected.partition(|shard| shard.neglected);
        // Workers that start together try different shards first.
        for i in (1..free.len()).rev() {
            let j = random.below(i as u64 + 1) as usize;
            free.swap(i, j);
        }
        free.truncate(room.saturating_sub(neglected.len()));
        neglected.extend(free);
        let names = neglected.into_iter().map(|shard| shard.shard.clone());
        names.collect()
    }

    /// Returns a shard to ask for and its holder, if a move would make the loads more equal.
    pub(crate) fn shard_to_ask_for(&self, random: &Random) -> Option<(ShardId, String)> {
        let mine = self.load(&self.me);
        let (victim, most) = self
            .loads
            .iter()
            .max_by_key(|(name, load)| (**load, std::cmp::Reverse(*name)))?;
        if *most < mine + 2 || self.shards.iter().any(|shard| shard.holder.is_none()) {
            return None;
        }
        let theirs: Vec<_> = self
            .shards
            .iter()
            .filter(|shard| shard.holder.as_ref() == Some(victim) && shard.wanted.is_none())
            .collect();
        let chosen = theirs.get(random.below(theirs.len() as u64) as usize)?;
        Some((chosen.shard.clone(), victim.clone()))
    }

    /// Splits the shards that others want from this worker into those that it hands over and those that it declines.
    /// The shards of which `is_leaving` holds are already being handed over.
    pub(crate) fn handovers(
        &self,
        is_leaving: impl Fn(&ShardId) -> bool,
    ) -> (Vec<ShardId>, Vec<ShardId>) {
        let mut loads = self.loads.clone();
        let mine = |shard: &&WorkableShard| shard.holder.as_deref() == Some(self.me.as_str());
        let wanted = |shard: &WorkableShard| shard.wanted.clone().filter(|name| *name != self.me);
        for shard in self.shards.iter().filter(mine) {
            if is_leaving(&shard.shard) {
                shift(&mut loads, &self.me, wanted(shard).as_deref());
            }
        }
        let (mut given, mut declined) = (Vec::new(), Vec::new());
        for shard in self.shards.iter().filter(mine) {
            let Some(asker) = wanted(shard).filter(|_| !is_leaving(&shard.shard)) else {
                continue;
            };
            let theirs = loads.get(&asker).copied().unwrap_or(0);
            if loads.get(&self.me).copied().unwrap_or(0) >= theirs + 2 {
                shift(&mut loads, &self.me, Some(&asker));
                given.push(shard.shard.clone());
            } else {
                declined.push(shard.shard.clone());
            }
        }
        (given, declined)
    }
}

fn shift(loads: &mut BTreeMap<String, usize>, from: &str, to: Option<&str>) {
    if let Some(load) = loads.get_mut(from) {
        debug_assert!(*load > 0, "`{from}` hands over a shard that it holds");
        *load = load.saturating_sub(1);
    }
    if let Some(to) = to {
        *loads.entry(to.to_owned()).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shards(holders: &[Option<usize>]) -> Vec<WorkableShard> {
        holders
            .iter()
            .enumerate()
            .map(|(n, holder)| WorkableShard {
                shard: ShardId::new(format!("{n:04}")),
                holder: holder.map(|worker| format!("w{worker}")),
                wanted: None,
                neglected: false,
            })
            .collect()
    }

    #[test]
    fn a_lone_worker_takes_all_and_asks_for_none() {
        let random = Random::seeded(1);
        let view = BalanceView::new("w0", shards(&[None; 5]));
        assert_eq!(view.shards_to_take(&random).len(), 5);
        assert_eq!(view.shard_to_ask_for(&random), None);
    }

    #[test]
    fn a_neglected_shard_is_taken_beyond_the_share() {
        let random = Random::seeded(1);
        let mut all = shards(&[Some(0), Some(0), None, Some(1)]);
        assert!(
            BalanceView::new("w0", all.clone())
                .shards_to_take(&random)
                .is_empty()
        );
        all[2].neglected = true;
        assert_eq!(BalanceView::new("w0", all).shards_to_take(&random).len(), 1);
    }

    #[test]
    fn a_worker_asks_only_if_the_loads_become_more_equal() {
        let random = Random::seeded(1);
        let all = shards(&[Some(0), Some(0), Some(1)]);
        assert_eq!(
            BalanceView::new("w1", all.clone()).shard_to_ask_for(&random),
            None
        );
        let (shard, holder) = BalanceView::new("w2", all)
            .shard_to_ask_for(&random)
            .unwrap();
        assert!(shard.as_str() < "0002" && holder == "w0");
    }

    #[test]
    fn a_holder_that_two_workers_ask_keeps_its_share() {
        let mut all = shards(&[Some(0), Some(0)]);
        all[0].wanted = Some("w1".to_owned());
        all[1].wanted = Some("w2".to_owned());
        let (given, declined) = BalanceView::new("w0", all).handovers(|_| false);
        assert_eq!((given.len(), declined.len()), (1, 1));
    }

    proptest! {
        #[test]
        fn moves_end_in_loads_that_differ_by_at_most_one(
            start in prop::collection::vec(prop::option::of(0usize..5), 0..40),
            workers in 1usize..6,
            seed in any::<u64>(),
        ) {
            let random = Random::seeded(seed);
            let mut all = shards(&start.iter().map(|w| w.filter(|w| *w < workers)).collect::<Vec<_>>());
            let mut moves = 0;
            loop {
                let before = moves;
                for n in 0..workers {
                    let me = format!("w{n}");
                    for shard in BalanceView::new(&me, all.clone()).shards_to_take(&random) {
                        let row = all.iter_mut().find(|row| row.shard == shard).unwrap();
                        row.holder = Some(me.clone());
                        moves += 1;
                    }
                    if let Some((shard, victim)) = BalanceView::new(&me, all.clone()).shard_to_ask_for(&random) {
                        let row = all.iter().position(|row| row.shard == shard).unwrap();
                        all[row].wanted = Some(me.clone());
                        let (given, _) = BalanceView::new(&victim, all.clone()).handovers(|_| false);
                        all[row].wanted = None;
                        if given.contains(&shard) {
                            all[row].holder = Some(me.clone());
                            moves += 1;
                        }
                    }
                }
                if moves == before {
                    break;
                }
                prop_assert!(moves <= all.len() * (workers + 1), "moves do not end");
            }
            let loads: Vec<_> = (0..workers)
                .map(|n| all.iter().filter(|row| row.holder == Some(format!("w{n}"))).count())
                .collect();
            let (low, high) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
            prop_assert!(high - low <= 1, "{loads:?}");
            prop_assert_eq!(loads.iter().sum::<usize>(), all.len());
        }
    }
}
