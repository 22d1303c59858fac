//! Visits every state that a model can reach, breadth first.
//!
//! Promises: the first violation found has the shortest trace; a run without a violation has seen
//! every state within the model's bounds. States are remembered by a 128-bit fingerprint, so that
//! a collision, which would hide a state, has a chance below 1e-24 at ten million states.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// A protocol with its environment: who may do what next, and what must never be seen.
pub(crate) trait Model {
    type State: Clone + Hash;

    fn start(&self) -> Self::State;

    /// Adds every step that may follow `at`.
    fn steps(&self, at: &Self::State, steps: &mut Steps<Self::State>);

    /// The promise that `at` breaks.
    fn broken(&self, at: &Self::State) -> Option<Broken>;

    /// Whether the protocol may rest in `at`. Elsewhere a state without steps is stuck.
    fn is_end(&self, at: &Self::State) -> bool;
}

/// What a protocol promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    NothingLost,
    NothingDoubled,
    OrderPerKey,
    NeverStuck,
    /// A claim, a name or a row that means two things.
    OneMeaning,
}

impl Promise {
    pub(crate) fn violated(self) -> &'static str {
        match self {
            Promise::NothingLost => "loses",
            Promise::NothingDoubled => "doubles",
            Promise::OrderPerKey => "reorders",
            Promise::NeverStuck => "gets stuck",
            Promise::OneMeaning => "contradicts itself",
        }
    }
}

/// A violated promise.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) promise: Promise,
    pub(crate) what: String,
}

pub(crate) fn broken(promise: Promise, what: impl Into<String>) -> Option<Broken> {
    Some(Broken {
        promise,
        what: what.into(),
    })
}

/// The steps that follow one state.
pub(crate) struct Steps<S> {
    named: bool,
    found: Vec<(String, S)>,
}

impl<S> Steps<S> {
    /// Adds a step. `name` is called only while a trace is written.
    pub(crate) fn add(&mut self, name: impl FnOnce() -> String, next: S) {
        let name = if self.named { name() } else { String::new() };
        self.found.push((name, next));
    }
}

impl<S: Clone> Steps<S> {
    /// Adds the step that changes `at`.
    pub(crate) fn change(
        &mut self,
        at: &S,
        name: impl FnOnce() -> String,
        change: impl FnOnce(&mut S),
    ) {
        let mut next = at.clone();
        change(&mut next);
        self.add(name, next);
    }
}

/// What a search found.
pub(crate) struct Outcome {
    pub(crate) states: usize,
    /// Whether every state was visited.
    pub(crate) complete: bool,
    /// Whether an end was reached: a model that never ends proves nothing.
    pub(crate) ends: bool,
    pub(crate) violation: Option<(Broken, Vec<String>)>,
}

/// Searches `model` until a promise is broken, every state is seen, or `states_max` are.
pub(crate) fn search<M: Model>(model: &M, states_max: usize) -> Outcome {
    let mut seen: HashSet<u128, BuildHasherDefault<AsIs>> = HashSet::default();
    let mut parents: Vec<(u32, u16)> = vec![(0, 0)];
    let mut frontier = VecDeque::new();
    let start = model.start();
    seen.insert(fingerprint(&start));
    frontier.push_back((0u32, start));
    let mut ends = false;
    let mut steps = Steps {
        named: false,
        found: Vec::new(),
    };
    let outcome = |parents: &Vec<(u32, u16)>, complete, ends, violation| Outcome {
        states: parents.len(),
        complete,
        ends,
        violation,
    };
    while let Some((id, state)) = frontier.pop_front() {
        if let Some(broken) = model.broken(&state) {
            let trace = trace(model, &parents, id);
            return outcome(&parents, false, ends, Some((broken, trace)));
        }
        let is_end = model.is_end(&state);
        ends |= is_end;
        model.steps(&state, &mut steps);
        if steps.found.is_empty() && !is_end {
            let stuck = Broken {
                promise: Promise::NeverStuck,
                what: "nobody can do anything more".into(),
            };
            let trace = trace(model, &parents, id);
            return outcome(&parents, false, ends, Some((stuck, trace)));
        }
        for (choice, (_, next)) in steps.found.drain(..).enumerate() {
            if seen.insert(fingerprint(&next)) {
                parents.push((id, choice as u16));
                frontier.push_back((parents.len() as u32 - 1, next));
            }
        }
        if parents.len() > states_max {
            return outcome(&parents, false, ends, None);
        }
    }
    outcome(&parents, true, ends, None)
}

/// Replays the choices that lead to state `id`, with the names of the steps.
fn trace<M: Model>(model: &M, parents: &[(u32, u16)], mut id: u32) -> Vec<String> {
    let mut choices = Vec::new();
    while id != 0 {
        let (parent, choice) = parents[id as usize];
        choices.push(choice);
        id = parent;
    }
    let mut state = model.start();
    let mut names = Vec::new();
    for choice in choices.into_iter().rev() {
        let mut steps = Steps {
            named: true,
            found: Vec::new(),
        };
        model.steps(&state, &mut steps);
        let (name, next) = steps.found.swap_remove(choice as usize);
        names.push(name);
        state = next;
    }
    names
}

fn fingerprint(state: &impl Hash) -> u128 {
    let mut hasher = Wide(0x243f_6a88_85a3_08d3_1319_8a2e_0370_7344);
    state.hash(&mut hasher);
    let mixed = (hasher.0 ^ (hasher.0 >> 67)).wrapping_mul(Wide::FACTOR);
    mixed ^ (mixed >> 61)
}

/// Folds what it is given into 128 bits.
struct Wide(u128);

impl Wide {
    const FACTOR: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

    fn fold(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(41) ^ u128::from(word)).wrapping_mul(Self::FACTOR);
    }
}

impl Hasher for Wide {
    fn finish(&self) -> u64 {
        self.0 as u64
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.fold(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.fold(u64::from(word));
    }

    fn write_u16(&mut self, word: u16) {
        self.fold(u64::from(word));
    }

    fn write_u32(&mut self, word: u32) {
        self.fold(u64::from(word));
    }

    fn write_usize(&mut self, word: usize) {
        self.fold(word as u64);
    }
}

/// Hashes a fingerprint by itself.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are hashed");
    }

    fn write_u128(&mut self, fingerprint: u128) {
        self.0 = fingerprint as u64;
    }
}
