//! What is searched: streams, faults, and the mutants.

use super::reader::{Item, READING, UnitPlace};
use super::reading;
use super::sender::{Claims, Inherit, Low, Mispredicted, SENDING};
use crate::catalog::{Check, model, mutant};

fn record(origin: u8, position: u8, slot: u8) -> Item {
    Item {
        origin,
        position,
        index: 0,
        slot,
        unit: false,
    }
}

/// A dead letter or a drop; all units of an origin have one route.
fn unit(origin: u8, position: u8) -> Item {
    Item {
        origin,
        position,
        index: 0,
        slot: [1, 3, 2][origin as usize],
        unit: true,
    }
}

/// One unconfirmed request a lane, puts of one worker stay in order, a new owner waits.
fn ordered() -> Claims {
    Claims {
        reading: READING,
        sending: SENDING,
        maps: vec![vec![(0, 1), (2, 3)]],
        items: Vec::new(),
        ends: [0; 3],
        parents: [&[], &[], &[]],
        places_late: true,
        unordered: false,
        takes_wait: true,
        order_promised: true,
        gaps_are_real: true,
        takes: 1,
        crashes: 0,
        requests: 2,
        sends: 4,
        latest: false,
    }
}

/// Two requests a lane, placed in any order; no order is promised.
fn unordered(base: fn() -> Claims) -> Claims {
    let mut config = base();
    config.sending.one_unconfirmed = false;
    config.unordered = true;
    config.takes_wait = false;
    config.order_promised = false;
    config.gaps_are_real = false;
    config.sends = 3;
    config
}

/// As `ordered`, but a new owner does not wait: no order is promised across a handover.
fn early(base: fn() -> Claims) -> Claims {
    Claims {
        takes_wait: false,
        order_promised: false,
        ..base()
    }
}

fn split() -> Claims {
    Claims {
        maps: vec![vec![(0, 1), (2, 3)], vec![(0, 0), (1, 1), (2, 3)]],
        items: vec![record(0, 1, 0), record(0, 2, 1), record(0, 3, 0)],
        ends: [3, 0, 0],
        ..ordered()
    }
}

fn split_of_two_origins() -> Claims {
    Claims {
        maps: vec![vec![(0, 1), (2, 3)], vec![(0, 0), (1, 1), (2, 3)]],
        items: vec![record(0, 1, 0), record(1, 1, 1), record(1, 2, 1)],
        ends: [1, 2, 0],
        ..ordered()
    }
}

fn merge() -> Claims {
    Claims {
        maps: vec![vec![(0, 1), (2, 3)], vec![(0, 3)]],
        items: vec![record(0, 1, 0), record(0, 2, 2), record(0, 3, 0)],
        ends: [3, 0, 0],
        ..ordered()
    }
}

fn merge_then_split() -> Claims {
    Claims {
        maps: vec![vec![(0, 1), (2, 3)], vec![(0, 3)], vec![(0, 0), (1, 3)]],
        items: vec![record(0, 1, 1), record(0, 2, 2), record(0, 3, 1)],
        ends: [3, 0, 0],
        ..ordered()
    }
}

fn units_split() -> Claims {
    Claims {
        maps: vec![vec![(0, 1), (2, 3)], vec![(0, 0), (1, 1), (2, 3)]],
        items: vec![record(0, 1, 0), unit(0, 2), record(0, 3, 1)],
        ends: [3, 0, 0],
        ..ordered()
    }
}

fn units_merge() -> Claims {
    Claims {
        maps: vec![vec![(0, 1), (2, 3)], vec![(0, 3)]],
        items: vec![record(0, 1, 0), unit(0, 2), record(0, 3, 2)],
        ends: [3, 0, 0],
        ..ordered()
    }
}

/// As if units went by the keys of their records.
fn units_by_key() -> Claims {
    Claims {
        items: vec![
            record(0, 1, 0),
            Item {
                slot: 2,
                ..unit(0, 2)
            },
            record(0, 3, 2),
        ],
        ..units_merge()
    }
}

fn input_split() -> Claims {
    Claims {
        items: vec![record(0, 1, 0), record(1, 1, 0), record(2, 1, 2)],
        ends: [1, 1, 1],
        parents: [&[], &[0], &[0]],
        ..ordered()
    }
}

fn expanded() -> Claims {
    let second = Item {
        index: 1,
        ..record(0, 1, 0)
    };
    Claims {
        items: vec![record(0, 1, 0), second, record(0, 3, 1)],
        ends: [3, 0, 0],
        ..ordered()
    }
}

/// Three puts instead of four.
fn short(config: Claims) -> Claims {
    Claims { sends: 3, ..config }
}

fn with(mut config: Claims, change: fn(&mut Claims)) -> Claims {
    change(&mut config);
    config
}

pub(crate) fn checks() -> Vec<Check> {
    let model = |name, config| model("claims", name, config);
    let mutant = |name, config, change| mutant("claims", name, with(config, change));
    let mut all = vec![
        model("ordered, output split", split()),
        model(
            "ordered, output split, two origins in one lane",
            short(split_of_two_origins()),
        ),
        model("ordered, output merged", merge()),
        model(
            "ordered, output merged then split elsewhere",
            short(merge_then_split()),
        ),
        model("ordered, units, output split", short(units_split())),
        model("ordered, units, output merged", short(units_merge())),
        model("ordered, input split", input_split()),
        model(
            "ordered, two outputs of one record, a death",
            Claims {
                crashes: 1,
                ..expanded()
            },
        ),
        model("ordered, early takeover, output split", short(early(split))),
        model("ordered, early takeover, output merged", early(merge)),
        model("unordered, output split", unordered(split)),
        model("unordered, output merged", unordered(merge)),
        model("unordered, units, output split", unordered(units_split)),
        model(
            "unordered, reader begins late",
            Claims {
                latest: true,
                ..unordered(expanded)
            },
        ),
        model(
            "ordered, output split, whole-aggregate reader",
            with(short(split()), |c| {
                c.reading.whole = true;
            }),
        ),
        // The reader's rules.
        mutant("claims: single records sent raw", split(), |c| {
            c.reading.tags_read = false
        }),
        mutant(
            "claims: high-water mark, puts reordered",
            unordered(expanded),
            |c| {
                c.reading.sets = false;
            },
        ),
        mutant("claims: one origin an aggregate", split(), |c| {
            c.reading.origin_by_record = false
        }),
        mutant("claims: no output index", expanded(), |c| {
            c.reading.output_index = false
        }),
        mutant("claims: origin used again", input_split(), |c| {
            c.reading.origins_distinct = false
        }),
        mutant("claims: no filter by range", split(), |c| {
            c.reading.filtered_first = false
        }),
        mutant(
            "claims: filtered records move marks",
            split_of_two_origins(),
            |c| {
                c.reading.whole = true;
                c.reading.filtered_moves_nothing = false;
            },
        ),
        mutant("claims: claim counted for a whole segment", merge(), |c| {
            c.reading.claims_cut_segments = false;
        }),
        mutant(
            "claims: first sight knows what came before",
            unordered(expanded),
            |c| {
                c.latest = true;
                c.reading.no_first_sight = false;
            },
        ),
        mutant(
            "claims: older epochs dropped at the reader",
            early(expanded),
            |c| {
                c.reading.epochs_ignored = false;
            },
        ),
        mutant(
            "claims: unit known by one segment of its lane",
            units_merge(),
            |c| {
                c.reading.units = UnitPlace::AnySegment;
            },
        ),
        mutant(
            "claims: unit known by all segments of its lane",
            units_merge(),
            |c| {
                c.reading.units = UnitPlace::AllSegments;
            },
        ),
        mutant(
            "claims: unit known by the lane's first segment",
            units_by_key(),
            |c| {
                c.reading.units = UnitPlace::FirstSegment;
            },
        ),
        mutant("claims: merged marks by maximum", merge(), |c| {
            c.sending.inherit = Inherit::Maximum;
        }),
        mutant("claims: merged marks by minimum", merge(), |c| {
            c.sending.inherit = Inherit::Minimum;
        }),
        mutant("claims: children inherit nothing", split(), |c| {
            c.sending.inherit = Inherit::Nothing;
        }),
        mutant("claims: ended origin pruned at once", expanded(), |c| {
            c.sending.ended_kept = false;
        }),
        // The sender's rules.
        mutant(
            "claims: two unconfirmed in a lane, order promised",
            expanded(),
            |c| {
                c.sending.one_unconfirmed = false;
            },
        ),
        mutant("claims: new lane beside the old one", split(), |c| {
            c.sending.lanes_wait = false
        }),
        mutant("claims: answering shard unchecked", split(), |c| {
            c.sending.mispredicted = Mispredicted::Unchecked;
        }),
        mutant(
            "claims: entries confirmed one by one",
            split_of_two_origins(),
            |c| {
                c.reading.whole = true;
                c.sending.mispredicted = Mispredicted::ByEntry;
            },
        ),
        mutant("claims: credit beyond the answering shard", split(), |c| {
            c.sending.credit_within_shard = false;
        }),
        mutant(
            "claims: low of the session's start at once",
            early(expanded),
            |c| {
                c.sending.low = Low::Start;
            },
        ),
        mutant(
            "claims: newest checkpoint as low at once",
            early(expanded),
            |c| {
                c.sending.low = Low::Newest;
            },
        ),
        mutant("claims: least from over a merged lane", early(merge), |c| {
            c.unordered = true;
            c.gaps_are_real = false;
            c.sending.claim_by_range = false;
        }),
        mutant(
            "claims: several in flight, from = confirmed",
            unordered(expanded),
            |c| {
                c.sending.from_sent = false;
            },
        ),
        mutant("claims: puts ordered by lane", split(), |c| {
            c.sending.ordered_by_shard = false
        }),
        mutant("claims: routes differ between workers", expanded(), |c| {
            c.sending.route_fixed = false;
        }),
        mutant("claims: route of units differs", units_split(), |c| {
            c.sending.unit_route_fixed = false;
        }),
        mutant(
            "claims: child before its parent's end",
            input_split(),
            |c| {
                c.sending.child_waits = false;
            },
        ),
        mutant("claims: checkpoint when sent", expanded(), |c| {
            c.sending.checkpoint_on_answer = false;
        }),
    ];
    all.extend(reading::checks());
    all
}
