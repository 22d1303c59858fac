//! What is searched: streams, faults, and the mutants.

use super::{Append, Inherit, Item, RULES, Rules};
use crate::catalog::{Check, model, mutant};

fn item(origin: u8, position: u8, slot: u8) -> Item {
    Item {
        origin,
        position,
        slot,
    }
}

/// One input shard; the output is merged, then split elsewhere.
fn resharded() -> Append {
    Append {
        rules: RULES,
        maps: vec![vec![(0, 1), (2, 3)], vec![(0, 3)], vec![(0, 0), (1, 3)]],
        items: vec![item(0, 1, 1), item(0, 2, 2), item(0, 3, 1)],
        ends: [3, 0, 0],
        parents: [&[], &[], &[]],
        depth: 1,
        takes: 1,
        kills: 0,
        cuts: 0,
        faults: 1,
    }
}

/// One input shard into one output shard, with deaths and power cuts.
fn cut() -> Append {
    Append {
        maps: vec![vec![(0, 3)]],
        items: vec![item(0, 1, 0), item(0, 2, 1), item(0, 3, 0)],
        depth: 2,
        takes: 1,
        kills: 1,
        cuts: 1,
        faults: 1,
        ..resharded()
    }
}

/// The input is split: the children continue a key each.
fn input_split() -> Append {
    Append {
        maps: vec![vec![(0, 1), (2, 3)]],
        items: vec![item(0, 1, 0), item(0, 2, 2), item(1, 1, 0), item(2, 1, 2)],
        ends: [2, 1, 1],
        parents: [&[], &[0], &[0]],
        faults: 0,
        ..resharded()
    }
}

fn with(scenario: fn() -> Append, change: fn(&mut Rules)) -> Append {
    let mut config = scenario();
    change(&mut config.rules);
    config
}

pub(crate) fn checks() -> Vec<Check> {
    let model = |name, config| model("append", name, config);
    let mutant = |name, scenario, change| mutant("append", name, with(scenario, change));
    vec![
        model(
            "output merged then split, lost answer",
            Append {
                takes: 0,
                ..resharded()
            },
        ),
        model(
            "output merged then split, zombie",
            Append {
                faults: 0,
                ..resharded()
            },
        ),
        model("kill, zombie, power cut, lost answer", cut()),
        model(
            "power cut between reshards",
            Append {
                cuts: 1,
                takes: 0,
                faults: 0,
                ..resharded()
            },
        ),
        model("input split, zombie", input_split()),
        mutant("append: no marks", cut, |r| r.marks = false),
        mutant("append: out of order accepted", cut, |r| {
            r.order_checked = false
        }),
        mutant("append: marks beside the frame", cut, |r| {
            r.marks_in_frame = false
        }),
        mutant("append: duplicate acknowledged early", cut, |r| {
            r.duplicates_wait = false
        }),
        mutant("append: marks kept over a cut tail", cut, |r| {
            r.recounted_after_cut = false
        }),
        mutant("append: merged marks by maximum", resharded, |r| {
            r.inherit = Inherit::Maximum
        }),
        mutant("append: merged marks by minimum", resharded, |r| {
            r.inherit = Inherit::Minimum
        }),
        mutant("append: children inherit nothing", resharded, |r| {
            r.inherit = Inherit::Nothing
        }),
        mutant("append: closed shard accepts", resharded, |r| {
            r.closed_refuses = false
        }),
        mutant("append: routes differ between workers", cut2, |r| {
            r.route_fixed = false
        }),
        mutant("append: child before its parent's end", input_split, |r| {
            r.child_waits = false
        }),
        mutant("append: checkpoint when sent", cut, |r| {
            r.checkpoint_on_answer = false
        }),
        mutant("append: origin used again", input_split, |r| {
            r.origins_distinct = false
        }),
    ]
}

/// As `cut`, into two output shards.
fn cut2() -> Append {
    Append {
        maps: vec![vec![(0, 1), (2, 3)]],
        ..cut()
    }
}
