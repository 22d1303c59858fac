//! Where records go, and units that are not records.

use std::collections::{BTreeMap, BTreeSet};

use hydrant_core::hash::Routing;
use hydrant_core::stream::Stream;
use hydrant_core::{Error, HashRange, Position, Random};

use hydrant_testing::memory::{MemoryStream, StreamTraits};

use super::{
    UNITS, context, input, lanes, log, reshard, run, small, storing_log, transform, upstream,
};
use crate::delivery::{Keys, Lanes, Session};

#[test]
fn a_route_depends_on_the_input_key_alone_and_an_explicit_hash_outranks_it() {
    run(async {
        let stream = log(2, Random::seeded(4));
        for (keys, explicit) in [(Keys::Replaced, true), (Keys::Kept, false)] {
            let lanes = opened(&stream, keys).await.unwrap();
            let planner = lanes
                .session(upstream("a", Position::Begin))
                .await
                .planner();
            let mut batch = input(4, "a", 0, 60);
            let routes = planner.routes(&batch);
            assert_eq!(routes.explicit, explicit);
            let again = planner.routes(&batch);
            assert_eq!(routes.hashes, again.hashes);
            for (index, entry) in batch.records.iter().enumerate() {
                if let Some(key) = batch.key(entry) {
                    let natural = hydrant_core::hash::route_of_key(key);
                    assert_eq!(routes.hashes[index] >> 112, natural >> 112);
                    assert_eq!(routes.hashes[index] == natural, !explicit);
                }
            }
            batch.hashes = vec![9; batch.len()];
            let routes = planner.routes(&batch);
            assert!(routes.explicit && routes.hashes.iter().all(|hash| *hash == 9));
        }
    });
}

#[test]
fn what_is_no_record_goes_by_its_origin_alone() {
    run(async {
        let random = Random::seeded(5);
        let stream = storing_log(8, random.clone());
        for reshards in 0..6 {
            if reshards > 0 {
                reshard(&stream, &random).await;
            }
            let map = stream.shards().await.unwrap();
            let lanes = opened(&stream, Keys::Replaced).await.unwrap();
            for name in ["a", "b"] {
                let origin = upstream(name, Position::Begin);
                let route = origin.unit_route;
                let planner = lanes.session(origin).await.planner();
                let batch = input(5, name, 0, UNITS);
                let routes = planner.routes(&batch);
                let plan = planner.plan(transform(5, name, batch), &routes, 0);
                let mut units = 0;
                for (shard, piece) in plan.unwrap().pieces {
                    units += piece.units.len();
                    assert!(piece.units.iter().all(|unit| unit.route == route));
                    let range = map.get(&shard).unwrap().range;
                    assert!(piece.units.is_empty() || range.contains(route));
                }
                assert!(units > 40, "{units} units of {name}");
            }
        }
    });
}

/// What two policies make of one record goes to one place, where the log keeps the first.
#[test]
fn where_appends_are_checked_a_unit_goes_where_its_record_would() {
    run(async {
        let stream = log(8, Random::seeded(6));
        let lanes = opened(&stream, Keys::Replaced).await.unwrap();
        let session = lanes.session(upstream("a", Position::Begin)).await;
        let planner = session.planner();
        let batch = input(6, "a", 0, UNITS);
        let routes = planner.routes(&batch);
        let positions = batch.positions();
        let positions = positions.map(|(sequence, sub, _)| Position::at(sequence, sub));
        let of_records: BTreeMap<_, _> = positions.zip(routes.hashes.clone()).collect();
        let plan = planner.plan(transform(6, "a", batch), &routes, 0).unwrap();
        let units = plan.pieces.iter().flat_map(|(_, piece)| piece.units.iter());
        let units = units.filter_map(|unit| {
            let route = of_records.get(&unit.origin.position())?;
            Some((unit.route, *route))
        });
        let units: Vec<_> = units.collect();
        assert!(units.len() > 20, "{} units", units.len());
        assert!(units.iter().all(|(unit, record)| unit == record));
    });
}

/// A put that holds the appends of several sessions counts all of their accounts at its end.
#[test]
fn units_of_several_accounts_at_one_position_have_origins_of_their_own() {
    run(async {
        let stream = storing_log(8, Random::seeded(6));
        let lanes = opened(&stream, Keys::Replaced).await.unwrap();
        let session = lanes.session(upstream("a", Position::Begin)).await;
        let planner = session.planner();
        let mut batch = input(6, "a", 0, UNITS);
        batch.records.clear();
        batch.runs.clear();
        let again = batch.accounts.clone();
        batch.accounts.extend(again);
        let count = |accounts: &[hydrant_core::batch::AccountSpan]| -> usize {
            let accounts = accounts.iter().map(|span| &span.account);
            accounts
                .map(|account| account.dead_letters.len() + account.dropped.len())
                .sum()
        };
        let wanted = count(&batch.accounts);
        let routes = planner.routes(&batch);
        let plan = planner.plan(transform(6, "a", batch), &routes, 0).unwrap();
        let units = plan.pieces.iter().flat_map(|(_, piece)| piece.units.iter());
        let origins: BTreeSet<_> = units.map(|unit| unit.origin).collect();
        assert!(wanted > 4, "{wanted} units");
        assert_eq!(origins.len(), wanted);
    });
}

async fn opened(stream: &MemoryStream, keys: Keys) -> hydrant_core::Result<Lanes> {
    lanes(stream, keys, &context(Random::seeded(1))).await
}

fn route_by(stream: &MemoryStream, routing: Routing) {
    stream.set_traits(StreamTraits { routing, ..small() });
}

/// A stream in which nothing but the key says where a record goes, regardless of its writer.
#[test]
fn keys_go_where_the_output_says_and_no_more_is_stored_than_its_readers_need() {
    run(async {
        let stream = log(5, Random::seeded(8));
        let batch = input(8, "a", 0, 60);
        let keyed = || {
            let records = batch.records.iter().enumerate();
            records.filter_map(|(n, entry)| Some((n, batch.key(entry)?)))
        };
        for keys in [Keys::Kept, Keys::Replaced] {
            route_by(&stream, Routing::Md5);
            let lanes_md5 = opened(&stream, keys).await.unwrap();
            let session = lanes_md5.session(upstream("a", Position::Begin)).await;
            let routes = session.planner().routes(&batch);
            assert_eq!(routes.explicit, keys == Keys::Replaced);
            for (n, key) in keyed() {
                assert_eq!(routes.hashes[n], hydrant_core::hash::route_of_key(key));
            }
            route_by(&stream, Routing::Murmur2 { partitions: 5 });
            let partitions = HashRange::even(5);
            let lanes_murmur2 = opened(&stream, keys).await.unwrap();
            let session = lanes_murmur2.session(upstream("a", Position::Begin)).await;
            let planner = session.planner();
            let routes = planner.routes(&batch);
            assert!(!routes.explicit, "the partition says the hash");
            for (n, _) in keyed() {
                let firsts = partitions.iter().map(|part| part.first);
                assert!(firsts.into_iter().any(|first| first == routes.hashes[n]));
            }
            // The hash that a record brings outranks its key here as well, and is not stored either.
            let mut brought = input(8, "a", 0, 60);
            brought.hashes = vec![9; brought.len()];
            let routes = planner.routes(&brought);
            assert!(!routes.explicit && routes.hashes.iter().all(|hash| *hash == 9));
        }
    });
}

#[test]
fn an_output_that_grew_is_refused_where_keys_go_by_the_number_of_partitions() {
    run(async {
        let stream = log(3, Random::seeded(9));
        route_by(&stream, Routing::Murmur2 { partitions: 3 });
        let before = opened(&stream, Keys::Kept).await.unwrap();
        let mut session = before.session(upstream("a", Position::Begin)).await;
        let first = stream.shards().await.unwrap().all()[0].id.clone();
        stream.admin().split(&first, None).await.unwrap();
        let opened = opened(&stream, Keys::Kept).await.unwrap_err();
        assert!(opened.to_string().contains("4 partitions"), "{opened}");
        let planner = session.planner();
        let batch = input(9, "a", 0, 60);
        let routes = planner.routes(&batch);
        let plan = planner.plan(transform(9, "a", batch), &routes, 0);
        session.send(plan.unwrap()).await.unwrap();
        let refused = session.drain().await.unwrap_err();
        assert!(matches!(refused, Error::Refused { .. }), "{refused}");
    });
}
