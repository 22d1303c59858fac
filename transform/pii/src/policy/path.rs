//! JSON paths of rules and allowances, run as one automaton beside the walker.
//!
//! The language: `$`, `.name`, `['any name']`, `[3]`, `[*]`, `.*`, and `..` before a name or `*` for
//! any depth. A path continues inside a string that holds JSON. A rule at a path holds for everything
//! beneath it.

/// What a plain name may not hold: it would match no key that its writer has in mind, and a rule that matches nothing
/// redacts nothing.
const MEANT_OTHERWISE: [char; 5] = ['\\', '\'', '"', '*', ']'];

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Down {
    Name(Vec<u8>),
    Index(u32),
    Any,
}

/// A step, or the same at any depth below.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PathStep {
    down: Down,
    deep: bool,
}

/// A path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JsonPath {
    steps: Vec<PathStep>,
}

/// The child that a walk goes to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PathChild<'a> {
    Name(&'a [u8]),
    Index(u32),
}

impl JsonPath {
    /// Reads a path; the error says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text.strip_prefix('$').ok_or("a path starts with `$`")?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let below = rest.strip_prefix("..");
            let (deep, after) = (below.is_some(), below.unwrap_or(rest));
            let (down, after) = if let Some(inside) = after.strip_prefix('[') {
                bracketed(inside)?
            } else if let Some(name) = below.or(rest.strip_prefix('.')) {
                let (name, after) = name.split_at(name.find(['.', '[']).unwrap_or(name.len()));
                match name {
                    "" => return Err("a name is missing after `.`".to_owned()),
                    "*" => (Down::Any, after),
                    name if name.trim() != name || name.contains(MEANT_OTHERWISE) => {
                        return Err(format!(
                            "`{name}` is not a plain name: write it in brackets and quotes, such as `['any name']`"
                        ));
                    }
                    name => (Down::Name(name.as_bytes().to_vec()), after),
                }
            } else {
                return Err(format!(
                    "`{rest}` does not continue a path; write `.name` or `[index]`"
                ));
            };
            steps.push(PathStep { down, deep });
            rest = after;
        }
        Ok(Self { steps })
    }

    /// How many steps it has.
    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether this path names the root, and so everything.
    pub(crate) fn is_root(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether this path names everything, or everything but single levels of it.
    pub(crate) fn names_everything(&self) -> bool {
        self.steps.iter().all(|step| step.down == Down::Any)
    }

    /// Whether everything that `other` names lies at or beneath what this path names. It may answer
    /// no although it does; never the other way.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        if other.steps.len() < self.steps.len() {
            return false;
        }
        self.steps.iter().zip(&other.steps).all(|(mine, theirs)| {
            (mine.down == Down::Any || mine.down == theirs.down) && (mine.deep || !theirs.deep)
        })
    }
}

/// The step that starts behind a `[`, and what follows its `]`.
fn bracketed(inside: &str) -> Result<(Down, &str), String> {
    for quote in ['\'', '"'] {
        if let Some(name) = inside.strip_prefix(quote) {
            let closed = name.split_once(&format!("{quote}]"));
            let (name, after) = closed.ok_or("a `[` is not closed")?;
            if name.contains('\\') {
                return Err(format!(
                    "`{name}` has a backslash, which a path does not read: a quote needs none, and `[*]` matches any name"
                ));
            }
            return Ok((Down::Name(name.as_bytes().to_vec()), after));
        }
    }
    let (index, after) = inside.split_once(']').ok_or("a `[` is not closed")?;
    if index == "*" {
        return Ok((Down::Any, after));
    }
    let number = index
        .parse()
        .map_err(|_| format!("`[{index}]` is neither an index, `[*]`, nor a name in quotes"))?;
    Ok((Down::Index(number), after))
}

/// The automaton of several paths.
#[derive(Debug, Clone, Default)]
pub(crate) struct JsonPaths {
    /// The step that each state waits for, and the path it completes.
    states: Vec<(PathStep, Option<u16>)>,
    starts: Vec<u16>,
    roots: Vec<u16>,
}

/// Most steps of all paths together.
pub(crate) const STEPS_MAX: usize = 4096;

impl JsonPaths {
    pub(crate) fn new(paths: &[JsonPath]) -> Self {
        let mut all = Self::default();
        for (index, path) in paths.iter().enumerate() {
            let index = narrow(index);
            let Some(last) = path.steps.len().checked_sub(1) else {
                all.roots.push(index);
                continue;
            };
            all.starts.push(narrow(all.states.len()));
            for (at, step) in path.steps.iter().enumerate() {
                all.states
                    .push((step.clone(), (at == last).then_some(index)));
            }
        }
        all
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.states.is_empty() && self.roots.is_empty()
    }

    /// The states that wait at the root.
    pub(crate) fn starts(&self) -> &[u16] {
        &self.starts
    }

    /// The paths that name the root.
    pub(crate) fn roots(&self) -> &[u16] {
        &self.roots
    }

    /// Goes from the states `arena[from.0..from.1]` to `child`: appends the states that wait there
    /// to `arena`, calls `complete` with each path that names the child, and returns the new range.
    pub(crate) fn descend(
        &self,
        arena: &mut Vec<u16>,
        from: (u32, u32),
        child: PathChild<'_>,
        mut complete: impl FnMut(u16),
    ) -> (u32, u32) {
        let start = arena.len();
        for index in from.0 as usize..from.1 as usize {
            let state = arena[index];
            let (step, path) = &self.states[usize::from(state)];
            if step.deep && !arena[start..].contains(&state) {
                arena.push(state);
            }
            let matches = match (&step.down, child) {
                (Down::Any, _) => true,
                (Down::Name(name), PathChild::Name(key)) => name == key,
                (Down::Index(index), PathChild::Index(at)) => *index == at,
                _ => false,
            };
            if matches {
                match path {
                    Some(path) => complete(*path),
                    None if !arena[start..].contains(&(state + 1)) => arena.push(state + 1),
                    None => {}
                }
            }
        }
        (narrow_arena(start), narrow_arena(arena.len()))
    }
}

fn narrow_arena(length: usize) -> u32 {
    u32::try_from(length).expect("at most 4096 states wait in each of at most 9216 containers")
}

fn narrow(index: usize) -> u16 {
    u16::try_from(index).expect("a policy has at most 4096 steps, which is checked first")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(path: &str, children: &[PathChild<'_>]) -> bool {
        let paths = JsonPaths::new(&[JsonPath::parse(path).unwrap()]);
        let mut arena = paths.starts().to_vec();
        let mut range = (0, narrow_arena(arena.len()));
        let mut done = false;
        for child in children {
            done = false;
            range = paths.descend(&mut arena, range, *child, |_| done = true);
        }
        done
    }

    #[test]
    fn paths_name_what_they_say() {
        let a = PathChild::Name(b"a");
        let b = PathChild::Name(b"b");
        let two = PathChild::Index(2);
        for (path, children, named) in [
            ("$.a", vec![a], true),
            ("$.a", vec![b], false),
            ("$.a.b", vec![a, b], true),
            ("$.a.b", vec![b, b], false),
            ("$.a[*].b", vec![a, two, b], true),
            ("$.a[2]", vec![a, two], true),
            ("$.a[1]", vec![a, two], false),
            ("$.*.b", vec![a, b], true),
            ("$..b", vec![b], true),
            ("$..b", vec![a, two, a, b], true),
            ("$..a..b", vec![a, a, a, b], true),
            ("$['a']['b']", vec![a, b], true),
            ("$['x.y']", vec![PathChild::Name(b"x.y")], true),
        ] {
            assert_eq!(completed(path, &children), named, "{path}");
        }
    }

    #[test]
    fn wrong_paths_say_what_is_wrong() {
        for path in [
            "", "a", "$a", "$.", "$.a[", "$.a[x]", "$.a['b]", "$[1]x", "$...a",
        ] {
            assert!(JsonPath::parse(path).is_err(), "{path}");
        }
        assert!(JsonPath::parse("$").unwrap().is_root());
    }

    #[test]
    fn a_name_that_would_match_nothing_is_refused() {
        for (path, remedy) in [
            (r"$['it\'s']", "a quote needs none"),
            (r"$.a\.b", "in brackets and quotes"),
            ("$.a ", "in brackets and quotes"),
            ("$. a.b", "in brackets and quotes"),
            ("$..a\t", "in brackets and quotes"),
            ("$.a*", "in brackets and quotes"),
            ("$.'a'", "in brackets and quotes"),
            ("$.a]", "in brackets and quotes"),
        ] {
            let error = JsonPath::parse(path).expect_err(path);
            assert!(error.contains(remedy), "{path}: {error}");
        }
        for (path, name) in [
            ("$[\"it's\"]", "it's"),
            ("$['it's']", "it's"),
            ("$[' a ']", " a "),
            ("$['a*']", "a*"),
            ("$.first name", "first name"),
            ("$.größe", "größe"),
        ] {
            let child = PathChild::Name(name.as_bytes());
            assert!(completed(path, &[child]), "{path}");
        }
    }

    #[test]
    fn covering_is_seen() {
        let covers = |a: &str, b: &str| {
            JsonPath::parse(a)
                .unwrap()
                .covers(&JsonPath::parse(b).unwrap())
        };
        assert!(covers("$.a", "$.a.b"));
        assert!(covers("$.*", "$.a"));
        assert!(covers("$..b", "$..b"));
        assert!(!covers("$.a.b", "$.a"));
        assert!(!covers("$.a", "$..a"));
        assert!(!covers("$.a", "$.b"));
    }
}
