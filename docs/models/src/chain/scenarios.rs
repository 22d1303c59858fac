//! What is searched: faults, and the mutants.

use super::{Chain, CleanUp, Look, Removal, Rules};
use crate::catalog::{Check, model, mutant};

fn rules() -> Rules {
    Rules {
        found_is_finished: true,
        mine_by_bytes: true,
        looks: vec![Look::Object, Look::Layout, Look::Newer],
        rebuild_claimed: true,
        recorded_spec: true,
        from_the_chain: true,
        unknown_put_repeated: true,
        slots_stay: true,
        ledger_after_reveal: true,
        record_before_reveal: true,
        named_by_interval: true,
        mark_after_finish: true,
        unproven_is_dead: true,
        giving_up_recorded: true,
        retention_declared: true,
        one_slot_ahead: true,
        ahead_dropped: true,
        exists_is_looked_at: true,
        conflict_repeated: true,
        clean_up: CleanUp::Nothing,
        deletes_first: true,
        merged_has_copy: true,
        layouts_claimed: true,
        layout_mark_seen: true,
        expiry_recorded_first: true,
        expires_visible: true,
        replay_after_finish: true,
        replay_of_whole: true,
        missing_is_not_uploaded: true,
        missing_is_not_visible: true,
        missing_by_rebuild: true,
    }
}

/// Two owners, a late request, an upload that the bucket's rule aborts.
fn publish() -> Chain {
    Chain {
        rules: rules(),
        crashes: 0,
        late: 1,
        lost: 0,
        aborts: 1,
        marks: false,
        ahead: false,
        keepers: 0,
        merges: 0,
        expiries: 0,
        replays: 0,
        given_up: 0,
        removals: 0,
        removal: Removal::Finished,
        trims: false,
        days: false,
        owners: 2,
        specs_differ: false,
    }
}

fn running_ahead() -> Chain {
    Chain {
        ahead: true,
        aborts: 0,
        ..publish()
    }
}

fn cleaning() -> Chain {
    let mut config = Chain {
        aborts: 0,
        ..publish()
    };
    config.rules.clean_up = CleanUp::BeforeTip;
    config
}

fn merging() -> Chain {
    Chain {
        keepers: 1,
        merges: 1,
        ..publish()
    }
}

fn two_keepers() -> Chain {
    Chain {
        keepers: 2,
        merges: 2,
        late: 0,
        aborts: 0,
        owners: 1,
        crashes: 1,
        ..merging()
    }
}

/// One owner whose answers may be lost, so that it finishes what is visible already.
fn expiring() -> Chain {
    Chain {
        keepers: 1,
        expiries: 1,
        crashes: 1,
        lost: 1,
        late: 0,
        owners: 1,
        ..publish()
    }
}

fn replaying() -> Chain {
    Chain {
        keepers: 1,
        replays: 1,
        merges: 1,
        aborts: 0,
        marks: true,
        ..publish()
    }
}

/// A keeper merges what another one expires.
fn at_odds() -> Chain {
    Chain {
        merges: 1,
        expiries: 1,
        ..two_keepers()
    }
}

/// An operator beside a sink: an upload may be aborted, and its file made again.
fn giving_up() -> Chain {
    Chain {
        given_up: 1,
        ..publish()
    }
}

fn removing() -> Chain {
    Chain {
        marks: true,
        removals: 1,
        trims: true,
        late: 0,
        ..publish()
    }
}

fn trimming() -> Chain {
    Chain {
        marks: true,
        trims: true,
        late: 0,
        ..publish()
    }
}

fn ageing() -> Chain {
    Chain {
        days: true,
        removal: Removal::Past,
        ..removing()
    }
}

fn with(mut config: Chain, change: fn(&mut Chain)) -> Chain {
    change(&mut config);
    config
}

pub(crate) fn checks() -> Vec<Check> {
    let model = |name, config| model("chain", name, config);
    let mutant = |name, config, change| mutant("chain", name, with(config, change));
    vec![
        model("publish: a late request, an aborted upload", publish()),
        model(
            "publish: a crash, a lost answer",
            Chain {
                crashes: 1,
                lost: 1,
                late: 0,
                aborts: 0,
                ..publish()
            },
        ),
        model(
            "policies differ between owners",
            Chain {
                specs_differ: true,
                ..publish()
            },
        ),
        model("next interval uploaded beside publishing", running_ahead()),
        model("clean-up", cleaning()),
        model("merge", merging()),
        model("two keepers, two merges, a crash", two_keepers()),
        model("expiry: a crash, a lost answer", expiring()),
        model("two keepers, a merge, an expiry, a crash", at_odds()),
        model("replay of an interval, beside a merge", replaying()),
        model(
            "replay of an interval, beside an expiry",
            Chain {
                merges: 0,
                expiries: 1,
                owners: 1,
                crashes: 1,
                ..replaying()
            },
        ),
        model("what is missing is given up, beside a sink", giving_up()),
        model("files of finished records removed from outside", removing()),
        model("the source forgets, an upload is aborted", trimming()),
        model("declared retention", ageing()),
        mutant("chain: found record not finished", publish(), |c| {
            c.rules.found_is_finished = false;
        }),
        mutant(
            "chain: record taken for one's own by interval",
            merging(),
            |c| {
                c.rules.mine_by_bytes = false;
            },
        ),
        mutant(
            "chain: rebuild without a look at the layout",
            merging(),
            |c| {
                c.rules.looks = vec![Look::Object, Look::Newer];
            },
        ),
        mutant(
            "chain: layout looked at before the object",
            merging(),
            |c| {
                c.rules.looks = vec![Look::Layout, Look::Object];
            },
        ),
        mutant("chain: rebuild by other rules", publish(), |c| {
            c.specs_differ = true;
            c.rules.recorded_spec = false;
        }),
        mutant("chain: from of the reader", publish(), |c| {
            c.rules.from_the_chain = false
        }),
        mutant("chain: slots folded away", publish(), |c| {
            c.rules.slots_stay = false
        }),
        mutant("chain: ledger before the reveal", trimming(), |c| {
            c.rules.ledger_after_reveal = false;
        }),
        mutant("chain: reveal before the record", publish(), |c| {
            c.rules.record_before_reveal = false;
        }),
        mutant("chain: names drawn, rebuild not claimed", publish(), |c| {
            c.rules.named_by_interval = false;
            c.rules.rebuild_claimed = false;
        }),
        mutant("chain: mark with the record", removing(), |c| {
            c.rules.mark_after_finish = false
        }),
        mutant(
            "chain: newer record looked at before the object",
            removing(),
            |c| {
                c.rules.looks = vec![Look::Newer, Look::Object, Look::Layout];
            },
        ),
        mutant("chain: newer record not looked at", removing(), |c| {
            c.rules.looks = vec![Look::Object, Look::Layout, Look::MarkOnly];
        }),
        mutant("chain: ledger as evidence", removing(), |c| {
            c.rules.looks = vec![Look::Object, Look::Layout, Look::Ledger];
        }),
        mutant("chain: unproven file taken for expired", removing(), |c| {
            c.rules.unproven_is_dead = false;
        }),
        mutant(
            "chain: removed before anything proves it",
            removing(),
            |c| {
                c.removal = Removal::Any;
            },
        ),
        mutant("chain: retention not declared", ageing(), |c| {
            c.rules.retention_declared = false;
        }),
        mutant("chain: slots ahead of the reveal", running_ahead(), |c| {
            c.rules.one_slot_ahead = false;
        }),
        mutant(
            "chain: interval ahead kept over a collision",
            running_ahead(),
            |c| {
                c.rules.ahead_dropped = false;
            },
        ),
        mutant(
            "chain: 412 of a completion taken for vanished",
            publish(),
            |c| {
                c.rules.exists_is_looked_at = false;
            },
        ),
        mutant(
            "chain: 409 of a completion taken for done",
            publish(),
            |c| {
                c.rules.conflict_repeated = false;
            },
        ),
        mutant(
            "chain: clean-up of what begins at the tip",
            cleaning(),
            |c| {
                c.rules.clean_up = CleanUp::AtTip;
            },
        ),
        mutant("chain: clean-up before the finish", cleaning(), |c| {
            c.rules.clean_up = CleanUp::BeforeFinish;
        }),
        mutant(
            "chain: merged file shown before its inputs go",
            merging(),
            |c| {
                c.rules.deletes_first = false;
            },
        ),
        mutant("chain: merged file without a hidden copy", merging(), |c| {
            c.rules.merged_has_copy = false
        }),
        mutant("chain: expired before it is recorded", expiring(), |c| {
            c.rules.expiry_recorded_first = false;
        }),
        mutant("chain: expired before it is visible", expiring(), |c| {
            c.rules.expires_visible = false;
        }),
        mutant("chain: layout record not claimed", at_odds(), |c| {
            c.rules.layouts_claimed = false;
        }),
        mutant("chain: replay before the finish", replaying(), |c| {
            c.rules.replay_after_finish = false;
        }),
        mutant(
            "chain: replay of what has expired in part",
            replaying(),
            |c| {
                c.merges = 0;
                c.expiries = 1;
                c.rules.replay_of_whole = false;
            },
        ),
        mutant("chain: given up while it is uploaded", giving_up(), |c| {
            c.rules.missing_is_not_uploaded = false;
        }),
        mutant("chain: given up while it is visible", giving_up(), |c| {
            c.rules.missing_is_not_visible = false;
        }),
        mutant("chain: given up in the layout chain", giving_up(), |c| {
            c.rules.missing_by_rebuild = false;
        }),
        mutant(
            "chain: removal from outside beside a merge",
            merging(),
            |c| {
                c.marks = true;
                c.removals = 1;
                c.aborts = 0;
            },
        ),
    ]
}
