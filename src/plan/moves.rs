//! What became of a parent key that is missing: gone, moved, or not to be told.
//!
//! Key changes carry knowledge that no table holds: which children of an old key belong to which new one. They are kept (the ledger's moves),
//! followed in the order in which the source made them, and parked wherever the key alone cannot tell old children from new ones (H22, H23,
//! H113, H114). Knows keys and positions; nothing of rows or events. Pure.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use crate::change::SourcePosition;
use crate::value::Key;

/// One known key change of an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The old key.
    pub from: Key,
    /// The new key; `None` if it could not be read.
    pub to: Option<Key>,
    /// Where the source made it; `None` if the record did not say.
    pub source: Option<SourcePosition>,
    /// Whether its children were seen to.
    pub state: MoveState,
    /// Of one that was left: the references of which no row stayed behind.
    pub seen_to: BTreeSet<String>,
}

impl Move {
    /// Whether rows of one of these references may have stayed behind.
    fn left_rows_of(&self, references: &BTreeSet<String>) -> bool {
        matches!(self.state, MoveState::Left | MoveState::Reused) && !references.is_subset(&self.seen_to)
    }
}

/// The value that a unique column had in the new row of a key change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// The value.
    pub key: Key,
    /// Where the source made the key change: the same for its old row.
    pub source: SourcePosition,
}

/// Completes key changes whose new value stood in another record than the old one. Where the value is the same there was no change.
#[must_use]
pub fn complete(moves: Vec<Move>, arrivals: &[Arrival]) -> Vec<Move> {
    let arrived = |one: &Move| {
        let mut here = arrivals.iter().filter(|arrival| one.to.is_none() && one.source.as_ref() == Some(&arrival.source));
        let first = here.next()?;
        here.all(|other| other == first).then_some(first)
    };
    let completed = moves.into_iter().map(|one| match arrived(&one) {
        Some(arrival) => Move { to: Some(arrival.key.clone()), ..one },
        None => one,
    });
    completed.filter(|one| one.to.as_ref() != Some(&one.from)).collect()
}

/// How far a key change was worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MoveState {
    /// Children may still carry the old key.
    Open,
    /// Those that follow the key were re-keyed; others point at the old key still.
    Left,
    /// So it was left, and the old key has had a life of its own since.
    Reused,
    /// The children were re-keyed, or there were none.
    Done,
    /// Done, and the old key has had a life of its own since.
    Superseded,
}

/// What is known of a missing key, beside the moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyHistory {
    /// The key.
    pub key: Key,
    /// A delete event said that it is gone (not just a tombstone, not just a key change).
    pub deleted: bool,
    /// A key change said that its row has another one.
    pub moved: bool,
    /// Where the source made its last delete.
    pub source: Option<SourcePosition>,
    /// Some reference follows changes of this entity's keys.
    pub keys_may_change: bool,
    /// A row that points at the key may refuse that its parent goes.
    pub may_refuse: bool,
    /// The references that are enforced and do something when the key's row goes.
    pub takes: BTreeSet<String>,
    /// Those that follow the key when it changes.
    pub follows: BTreeSet<String>,
}

/// The verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// The parent is gone.
    Gone,
    /// The parent lives under this key.
    Moved(Key),
    /// The change that was told was none of this value, or is history: whatever took it since is told by a record of its own.
    Stays,
    /// Its children are left alone and listed, for this reason.
    Park(&'static str),
}

/// Judges a key that was found missing. `moves` are all known moves of the entity that touch it, directly or through others; `present` says of
/// a key whether it was found on the parent's database.
pub fn rule(history: &KeyHistory, moves: &[Move], present: &impl Fn(&Key) -> bool) -> Ruling {
    let open: Vec<&Move> =
        moves.iter().filter(|one| one.from == history.key && one.state == MoveState::Open && !is_repeat(one, moves)).collect();
    if family(&history.key, moves).iter().any(present) {
        return Ruling::Park("an old key lives again: the key alone cannot tell old children from new ones");
    }
    let Some(first) = open.first() else { return without_open_moves(history, moves, present) };
    if open.iter().any(|one| one.to != first.to) {
        return Ruling::Park("the key changed more than once");
    }
    if moves.iter().any(|one| one.to.as_ref() == Some(&history.key) && later(one, first)) {
        return Ruling::Park("another row took over the old key");
    }
    if !history.keys_may_change && history.deleted {
        return Ruling::Park("the key changed before it was deleted, and no reference follows key changes");
    }
    if history.may_refuse && history.deleted && newer(history.source.as_ref(), first.source.as_ref()) {
        return Ruling::Park("another row had the key after the change and went: what refuses may be its");
    }
    follow_all(first, history, moves, present)
}

/// Follows a move, unless rows that would do so may have stayed behind another one of its key.
fn follow_all(first: &Move, history: &KeyHistory, moves: &[Move], present: &impl Fn(&Key) -> bool) -> Ruling {
    let is_another = |one: &Move| (&one.to, &one.source) != (&first.to, &first.source);
    if moves.iter().any(|one| one.from == history.key && is_another(one) && one.left_rows_of(&history.follows)) {
        return Ruling::Park(STAYED);
    }
    follow(first, moves, present)
}

const STAYED: &str = "rows stayed behind when the key changed: the key alone cannot tell them from those of its next row";

/// The old keys that lead to this one, and whose change is not worked yet; those on the way may be.
#[must_use]
pub fn came_from(key: &Key, moves: &[Move]) -> BTreeSet<Key> {
    let (mut found, mut seen) = (BTreeSet::new(), BTreeSet::from([key.clone()]));
    let mut open: Vec<(Key, Option<&Move>)> = vec![(key.clone(), None)];
    while let Some((key, by)) = open.pop() {
        let both_open = |one: &Move, by: &Move| one.state == MoveState::Open && by.state == MoveState::Open;
        let is_before = |one: &Move| by.is_none_or(|by| later(by, one) || both_open(one, by));
        for one in moves.iter().filter(|one| one.to.as_ref() == Some(&key) && is_before(one)) {
            if one.state == MoveState::Open {
                found.insert(one.from.clone());
            }
            if seen.insert(one.from.clone()) {
                open.push((one.from.clone(), Some(one)));
            }
        }
    }
    found.remove(key);
    found
}

/// The tombstone of a key change says it again, without a position: read in a batch of its own it must not pass for a change of its own.
fn is_repeat(one: &Move, moves: &[Move]) -> bool {
    one.source.is_none() && moves.iter().any(|other| other.source.is_some() && (&other.from, &other.to) == (&one.from, &one.to))
}

fn without_open_moves(history: &KeyHistory, moves: &[Move], present: &impl Fn(&Key) -> bool) -> Ruling {
    let worked = |one: &&Move| one.from == history.key && matches!(one.state, MoveState::Left | MoveState::Done);
    let done = moves.iter().filter(worked);
    let is_left = moves.iter().any(|one| one.from == history.key && one.left_rows_of(&history.takes));
    let last = done.reduce(|best, one| if later(one, best) { one } else { best });
    match last {
        // The last word on the key is a key change: whoever still carries it belongs there.
        Some(last) if !history.deleted || newer(last.source.as_ref(), history.source.as_ref()) => follow_all(last, history, moves, present),
        _ if is_left && (history.deleted || !history.moved) => Ruling::Park(STAYED),
        _ if history.deleted => Ruling::Gone,
        _ if history.moved => Ruling::Stays,
        _ if history.keys_may_change => Ruling::Park("only a tombstone says so: it may be half of a key change"),
        _ => Ruling::Gone,
    }
}

/// Old keys of open moves that hang together with this one. If one of them lives, the map as a whole cannot be told apart (H23).
fn family(key: &Key, moves: &[Move]) -> BTreeSet<Key> {
    let open: Vec<&Move> = moves.iter().filter(|one| one.state == MoveState::Open).collect();
    let mut keys = BTreeSet::from([key.clone()]);
    loop {
        let before = keys.len();
        for one in &open {
            let ends = [Some(&one.from), one.to.as_ref()];
            if ends.iter().flatten().any(|end| keys.contains(*end)) {
                keys.extend(ends.into_iter().flatten().cloned());
            }
        }
        if keys.len() == before {
            break;
        }
    }
    open.iter().filter(|one| keys.contains(&one.from)).map(|one| one.from.clone()).collect()
}

/// Follows a move, and the later moves from where it led, to a key that lives.
fn follow(first: &Move, moves: &[Move], present: &impl Fn(&Key) -> bool) -> Ruling {
    let mut current = first;
    let mut visited = BTreeSet::from([first.from.clone()]);
    loop {
        let Some(to) = &current.to else { return Ruling::Park("the new key is null, or could not be read") };
        let next =
            moves.iter().filter(|one| one.from == *to && later(one, current)).reduce(|best, one| if later(best, one) { one } else { best });
        if present(to) {
            // The row went on from there: who has that key now is another.
            return if next.is_none() { Ruling::Moved(to.clone()) } else { Ruling::Park("another row took over a key on the way") };
        }
        if !visited.insert(to.clone()) {
            return Ruling::Park("the key changes lead in a circle");
        }
        match next {
            Some(next) => current = next,
            None => return Ruling::Park("the new key is gone or unknown: its children may have been meant elsewhere"),
        }
    }
}

fn later(one: &Move, other: &Move) -> bool {
    newer(one.source.as_ref(), other.source.as_ref())
}

/// Strictly newer, where both are known and comparable; an unknown position is newer than nothing and older than nothing.
fn newer(one: Option<&SourcePosition>, other: Option<&SourcePosition>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.compare(other) == Some(Ordering::Greater),
        (Some(_), None) => true,
        (None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Cell;

    fn key(text: &str) -> Key {
        Key::from_cells([&Cell::Value(text.to_owned())]).expect("a value")
    }

    fn at(lsn: u64) -> Option<SourcePosition> {
        Some(SourcePosition { source: "postgresql/crm".into(), order: vec![lsn] })
    }

    fn moved(from: &str, to: &str, lsn: u64, state: MoveState) -> Move {
        Move { from: key(from), to: Some(key(to)), source: at(lsn), state, seen_to: BTreeSet::new() }
    }

    fn history(of: &str, deleted: bool, lsn: u64) -> KeyHistory {
        KeyHistory {
            key: key(of),
            deleted,
            moved: false,
            source: at(lsn),
            keys_may_change: true,
            may_refuse: false,
            takes: named(&["takes"]),
            follows: named(&["follows"]),
        }
    }

    fn named(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn ruling(history: &KeyHistory, moves: &[Move], alive: &[&str]) -> Ruling {
        rule(history, moves, &|candidate: &Key| alive.iter().any(|one| key(one) == *candidate))
    }

    use MoveState::{Done, Left, Open, Reused, Superseded};

    #[test]
    fn a_plain_delete_is_gone_and_a_bare_tombstone_waits_h5() {
        assert_eq!(ruling(&history("1", true, 5), &[], &[]), Ruling::Gone);
        assert!(matches!(ruling(&history("1", false, 5), &[], &[]), Ruling::Park(_)));
        let immutable = KeyHistory { keys_may_change: false, ..history("1", false, 5) };
        assert_eq!(ruling(&immutable, &[], &[]), Ruling::Gone);
    }

    #[test]
    fn h23_a_chain_without_reuse_is_followed_to_its_end() {
        let moves = [moved("1", "2", 10, Open), moved("2", "3", 20, Open), moved("3", "4", 30, Done)];
        assert_eq!(ruling(&history("1", false, 10), &moves, &["4"]), Ruling::Moved(key("4")));
        assert_eq!(ruling(&history("2", false, 20), &moves, &["4"]), Ruling::Moved(key("4")));
    }

    #[test]
    fn h23_a_swap_or_a_shift_is_parked_as_a_whole() {
        let shift = [moved("2", "3", 10, Open), moved("1", "2", 10, Open)];
        for old in ["1", "2"] {
            assert!(matches!(ruling(&history(old, false, 10), &shift, &["2", "3"]), Ruling::Park(_)), "{old}");
        }
        let swap = [moved("1", "t", 10, Open), moved("2", "1", 11, Open), moved("t", "2", 12, Open)];
        for old in ["1", "2", "t"] {
            assert!(matches!(ruling(&history(old, false, 10), &swap, &["1", "2"]), Ruling::Park(_)), "{old}");
        }
    }

    #[test]
    fn h23_a_key_taken_over_by_another_row_which_then_goes_is_parked() {
        let moves = [moved("2", "3", 10, Open), moved("1", "2", 20, Open)];
        // 1 leads to 2, which is gone; the older move 2 -> 3 must not be followed from it.
        assert!(matches!(ruling(&history("1", false, 20), &moves, &["3"]), Ruling::Park(_)));
        assert!(matches!(ruling(&history("2", true, 30), &moves, &["3"]), Ruling::Park(_)));
    }

    #[test]
    fn h23_a_key_on_the_way_that_another_row_took_over_is_not_the_end() {
        let moves = [moved("6", "13", 10, Open), moved("13", "12", 11, Done)];
        assert_eq!(ruling(&history("6", false, 10), &moves, &["12"]), Ruling::Moved(key("12")));
        assert!(matches!(ruling(&history("6", false, 10), &moves, &["12", "13"]), Ruling::Park(_)));
    }

    #[test]
    fn h22_a_key_change_is_worked_before_the_later_delete_of_its_old_key() {
        let moves = [moved("1", "9", 10, Open)];
        assert_eq!(ruling(&history("1", true, 30), &moves, &["9"]), Ruling::Moved(key("9")));
    }

    #[test]
    fn h113_a_chain_that_ends_in_nothing_is_parked() {
        let moves = [moved("1", "2", 10, Open), moved("2", "3", 20, Open)];
        assert!(matches!(ruling(&history("1", false, 10), &moves, &[]), Ruling::Park(_)));
        let unread = [Move { to: None, ..moved("1", "2", 10, Open) }];
        assert!(matches!(ruling(&history("1", false, 10), &unread, &["2"]), Ruling::Park(_)));
    }

    #[test]
    fn h114_a_key_change_after_the_delete_is_the_last_word() {
        let done = [moved("1", "2", 20, Done)];
        assert_eq!(ruling(&history("1", true, 10), &done, &["2"]), Ruling::Moved(key("2")));
        assert_eq!(ruling(&history("1", true, 30), &done, &["2"]), Ruling::Gone);
        let superseded = [moved("1", "2", 20, Superseded)];
        assert_eq!(ruling(&history("1", true, 30), &superseded, &["2"]), Ruling::Gone);
    }

    #[test]
    fn h23_rows_that_stayed_behind_are_not_the_next_rows_own() {
        let left = [moved("1", "2", 20, Left)];
        assert_eq!(ruling(&history("1", false, 20), &left, &["2"]), Ruling::Moved(key("2")), "told again");
        assert_eq!(ruling(&history("1", true, 10), &left, &["2"]), Ruling::Moved(key("2")), "what was before the change");
        assert!(matches!(ruling(&history("1", true, 30), &left, &["2"]), Ruling::Park(_)));
        assert_eq!(ruling(&history("2", true, 30), &left, &[]), Ruling::Gone, "the row itself went");
        let reused = [moved("1", "2", 20, Reused)];
        for deleted in [true, false] {
            assert!(matches!(ruling(&history("1", deleted, 30), &reused, &["2"]), Ruling::Park(_)), "deleted: {deleted}");
        }
        // Of what is enforced, some had left rows, or may have: it was in shadow, or is new.
        let seen = |names: &[&str], state| [Move { seen_to: named(names), ..moved("1", "2", 20, state) }];
        for state in [Left, Reused] {
            assert_eq!(
                ruling(&history("1", true, 30), &seen(&["takes", "follows"], state), &["2"]),
                Ruling::Gone,
                "what left rows does nothing"
            );
            assert!(matches!(ruling(&history("1", true, 30), &seen(&["follows"], state), &["2"]), Ruling::Park(_)));
            let again = |names: &[&str]| [seen(names, state)[0].clone(), moved("1", "5", 40, Open)];
            assert!(
                matches!(ruling(&history("1", false, 40), &again(&["takes"]), &["2", "5"]), Ruling::Park(_)),
                "whose rows would follow?"
            );
            assert_eq!(ruling(&history("1", false, 40), &again(&["follows"]), &["2", "5"]), Ruling::Moved(key("5")));
        }
        let left_twice = [left[0].clone(), moved("1", "5", 40, Left)];
        assert!(matches!(ruling(&history("1", false, 40), &left_twice, &["2", "5"]), Ruling::Park(_)), "told again: which of them?");
        let open_again = [left[0].clone(), Move { source: None, ..moved("1", "2", 0, Open) }, moved("1", "2", 20, Open)];
        assert_eq!(ruling(&history("1", false, 20), &open_again, &["2"]), Ruling::Moved(key("2")), "the same one");
        // The rules may follow no key any more.
        let tombstone = KeyHistory { keys_may_change: false, ..history("1", false, 30) };
        assert!(matches!(ruling(&tombstone, &reused, &["2"]), Ruling::Park(_)));
        let repeated = KeyHistory { moved: true, ..history("1", false, 20) };
        assert_eq!(ruling(&repeated, &reused, &["2"]), Ruling::Stays);
        let again = [Move { seen_to: named(&["follows"]), ..left[0].clone() }, moved("1", "3", 40, Done)];
        assert_eq!(ruling(&history("1", true, 30), &again, &["2", "3"]), Ruling::Moved(key("3")));
        assert!(matches!(ruling(&history("1", true, 50), &again, &["2", "3"]), Ruling::Park(_)));
    }

    #[test]
    fn a_key_change_repeated_by_its_tombstone_follows_the_one_before_it() {
        let repeat = Move { source: None, ..moved("2", "3", 0, Open) };
        let moves = [repeat, moved("1", "2", 10, Done), moved("2", "3", 20, Open)];
        assert_eq!(ruling(&history("2", false, 20), &moves, &["3"]), Ruling::Moved(key("3")));
    }

    #[test]
    fn a_key_change_that_only_its_tombstone_tells_is_one() {
        let told = Move { source: None, ..moved("2", "3", 0, Open) };
        let moves = [told, moved("5", "6", 10, Done)];
        assert_eq!(ruling(&history("2", false, 20), &moves, &["3"]), Ruling::Moved(key("3")));
    }

    #[test]
    fn a_worked_key_change_of_another_row_says_nothing_of_this_one() {
        assert_eq!(ruling(&history("1", true, 30), &[moved("5", "6", 50, Done)], &["6"]), Ruling::Gone);
    }

    #[test]
    fn h22_the_old_keys_that_lead_to_a_key_are_found_over_others() {
        let keys = |keys: &[&str]| keys.iter().map(|text| key(text)).collect::<BTreeSet<_>>();
        let chain = [moved("1", "2", 10, Open), moved("2", "3", 20, Open), moved("8", "9", 15, Open)];
        assert_eq!(came_from(&key("3"), &chain), keys(&["1", "2"]));
        let worked = [moved("1", "2", 10, Open), moved("2", "3", 20, Done)];
        assert_eq!(came_from(&key("3"), &worked), keys(&["1"]));
        let at_once = [moved("1", "2", 10, Open), moved("2", "3", 10, Open)];
        assert_eq!(came_from(&key("3"), &at_once), keys(&["1", "2"]));
        let another_row = [moved("1", "2", 20, Open), moved("2", "3", 10, Done)];
        assert_eq!(came_from(&key("3"), &another_row), keys(&[]), "who came to 2 later is not the one who left it for 3");
    }

    #[test]
    fn h22_a_change_told_in_two_records_is_completed_by_its_position() {
        let half = |lsn| Move { to: None, ..moved("3", "", lsn, Open) };
        let arrival = |value: &str, lsn| Arrival { key: key(value), source: at(lsn).expect("a position") };
        assert_eq!(complete(vec![half(10)], &[arrival("5", 20), arrival("13", 10)]), [moved("3", "13", 10, Open)]);
        assert_eq!(complete(vec![half(10)], &[arrival("5", 20)]), [half(10)], "another row's change says nothing");
        assert_eq!(complete(vec![half(10)], &[arrival("3", 10)]), [], "the value stayed");
        let twice = [arrival("13", 10), arrival("13", 10)];
        assert_eq!(complete(vec![half(10)], &twice), [moved("3", "13", 10, Open)], "it was read twice");
        assert_eq!(complete(vec![half(10)], &[arrival("13", 10), arrival("14", 10)]), [half(10)], "two rows: nobody knows which");
    }

    #[test]
    fn h6_a_value_that_stayed_through_a_key_change_is_not_gone_because_it_is_missing() {
        // Its row got another value since, and the record of that was not read yet.
        let moved = KeyHistory { moved: true, keys_may_change: false, ..history("1", false, 5) };
        assert_eq!(ruling(&moved, &[], &[]), Ruling::Stays);
        assert_eq!(ruling(&KeyHistory { keys_may_change: true, ..moved.clone() }, &[], &[]), Ruling::Stays);
        assert_eq!(ruling(&KeyHistory { deleted: true, ..moved }, &[], &[]), Ruling::Gone, "a delete of its own says so");
    }

    #[test]
    fn two_changes_of_one_key_are_parked() {
        let moves = [moved("1", "2", 10, Open), moved("1", "3", 20, Open)];
        assert!(matches!(ruling(&history("1", false, 20), &moves, &["2", "3"]), Ruling::Park(_)));
    }
}
