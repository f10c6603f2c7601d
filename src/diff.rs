//! What a change of rules means: what is new, what is gone, what reaches further than before, what less far.
//!
//! *Wider* is whatever may change or remove rows that the old rules left alone, or keeps less of a way back. A merge gate asks for that. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagram::{removed, words};
use crate::rules::{Entity, MissingAction, Mode, OnDelete, OnMissing, OnUpdate, Reference, Replica, RuleSet, When};

/// Which way a change goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// There was none of this name.
    Added,
    /// More rows may change or go.
    Widened,
    /// Other rows may change or go, neither more nor fewer for sure.
    Altered,
    /// Fewer rows may change or go.
    Narrowed,
    /// There is none of this name any more.
    Removed,
    /// There was none of this name, and by itself it changes no row.
    Inert,
}

impl Kind {
    /// The word shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Widened => "widened",
            Self::Altered => "altered",
            Self::Narrowed => "narrowed",
            Self::Removed => "removed",
            Self::Inert => "inert",
        }
    }

    /// Whether a person should look before it is merged.
    #[must_use]
    pub const fn may_do_more(self) -> bool {
        matches!(self, Self::Added | Self::Widened | Self::Altered)
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Which way it goes.
    pub kind: Kind,
    /// `reference order_customer`.
    pub place: String,
    /// What changed, from what to what.
    pub what: String,
}

/// Everything that differs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// The changes, those that may do more first.
    pub changes: Vec<Change>,
    /// By entity: what a delete of one of its rows removes rows of now and did not before, and the other way round.
    pub reach: BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)>,
}

impl Diff {
    /// What the new rules do that the old ones did not.
    #[must_use]
    pub fn of(old: &RuleSet, new: &RuleSet) -> Self {
        let mut changes = Vec::new();
        for (place, pair) in by_name("entity", &old.entities, &new.entities, |entity| &entity.name) {
            entity(&place, pair, &mut changes);
        }
        for (place, pair) in by_name("reference", &old.references, &new.references, |reference| &reference.name) {
            reference(&place, pair, (old, new), &mut changes);
        }
        for (place, pair) in by_name("replica", &old.replicas, &new.replicas, |replica| &replica.name) {
            replica(&place, pair, (old, new), &mut changes);
        }
        limits(old, new, &mut changes);
        changes.sort();
        Self { changes, reach: reach(old, new) }
    }

    /// Whether some change may do more than the old rules did.
    #[must_use]
    pub fn may_do_more(&self) -> bool {
        self.changes.iter().any(|change| change.kind.may_do_more()) || self.reach.values().any(|(more, _)| !more.is_empty())
    }
}

type Pair<'a, T> = (Option<&'a T>, Option<&'a T>);

fn by_name<'a, T>(what: &str, old: &'a [T], new: &'a [T], name: impl Fn(&T) -> &String) -> BTreeMap<String, Pair<'a, T>> {
    let mut pairs: BTreeMap<String, Pair<'a, T>> = BTreeMap::new();
    for one in old {
        pairs.entry(format!("{what} {}", name(one))).or_default().0 = Some(one);
    }
    for one in new {
        pairs.entry(format!("{what} {}", name(one))).or_default().1 = Some(one);
    }
    pairs
}

fn entity(place: &str, pair: Pair<'_, Entity>, changes: &mut Vec<Change>) {
    let mut note = |kind, what: String| changes.push(Change { kind, place: place.to_owned(), what });
    let (old, new) = match pair {
        (Some(old), Some(new)) => (old, new),
        // By itself an entity does nothing: what refers to it is told.
        (None, Some(new)) => return note(Kind::Inert, format!("table {}", new.table)),
        (Some(old), None) => return note(Kind::Removed, format!("table {}", old.table)),
        (None, None) => return,
    };
    if old.table != new.table {
        note(Kind::Altered, format!("table {} -> {}", old.table, new.table));
    }
    if old.key != new.key {
        note(Kind::Altered, format!("key ({}) -> ({})", old.key.join(", "), new.key.join(", ")));
    }
    if old.topic != new.topic {
        let shown = |topic: &Option<String>| topic.clone().unwrap_or_else(|| "none".to_owned());
        let kind = if new.topic.is_none() { Kind::Narrowed } else { Kind::Altered };
        note(kind, format!("topic {} -> {}", shown(&old.topic), shown(&new.topic)));
    }
}

fn reference(place: &str, pair: Pair<'_, Reference>, (before, after): (&RuleSet, &RuleSet), changes: &mut Vec<Change>) {
    let mut note = |kind, what: String| changes.push(Change { kind, place: place.to_owned(), what });
    let join = |one: &Reference, rules: &RuleSet| {
        let (child, parent) = (&rules.entity(one.child).name, &rules.entity(one.parent).name);
        format!("{child} ({}) -> {parent} ({})", one.columns.join(", "), one.parent_columns.join(", "))
    };
    let (old, new) = match pair {
        (Some(old), Some(new)) => (old, new),
        (None, Some(new)) => {
            let kind = if acts(new) { Kind::Added } else { Kind::Inert };
            return note(kind, format!("{}: {}", join(new, after), words(new)));
        }
        (Some(old), None) => {
            // What it held back goes from now on.
            let kind = if old.mode == Mode::Enforce && holds(old) { Kind::Widened } else { Kind::Removed };
            return note(kind, format!("{}: {}", join(old, before), words(old)));
        }
        (None, None) => return,
    };
    if join(old, before) != join(new, after) {
        note(Kind::Altered, format!("{}, was {}", join(new, after), join(old, before)));
    }
    let mut compare = |what: &str, kind: Option<Kind>, old: String, new: String| {
        if let Some(kind) = kind {
            note(kind, format!("{what}: {old} -> {new}"));
        }
    };
    let of_mode = ordered(u8::from(old.mode == Mode::Enforce), u8::from(new.mode == Mode::Enforce));
    compare("mode", of_mode.map(|kind| turned(kind, [old, new])), mode(old.mode), mode(new.mode));
    let of_delete =
        if old.on_delete == new.on_delete { None } else { ordered(harm(&old.on_delete), harm(&new.on_delete)).or(Some(Kind::Altered)) };
    compare("on_delete", of_delete, action(old), action(new));
    let of_update = if old.on_update == new.on_update {
        None
    } else {
        ordered(rewrites(old.on_update), rewrites(new.on_update)).or(Some(Kind::Altered))
    };
    compare("on_update", of_update, update(old.on_update), update(new.on_update));
    let of_when = conditions(&old.when, &new.when).map(|kind| turned(kind, [old, new]));
    compare("when", of_when, when(&old.when), when(&new.when));
    compare("on_missing", missing(old.on_missing.as_ref(), new.on_missing.as_ref()), shown_missing(old), shown_missing(new));
    // Without an archive there is no way back.
    compare("archive", ordered(u8::from(!old.archive), u8::from(!new.archive)), old.archive.to_string(), new.archive.to_string());
    let matching = (old.matching != new.matching).then_some(Kind::Altered);
    compare("match", matching, format!("{:?}", old.matching).to_lowercase(), format!("{:?}", new.matching).to_lowercase());
}

fn replica(place: &str, pair: Pair<'_, Replica>, (before, after): (&RuleSet, &RuleSet), changes: &mut Vec<Change>) {
    let shown = |one: &Replica, rules: &RuleSet| {
        let columns: Vec<String> = one.columns.iter().map(|(here, there)| format!("{here}: {there}")).collect();
        format!("{} of {}: {}", one.table, rules.entity(one.of).name, columns.join(", "))
    };
    let change = match pair {
        (Some(old), Some(new)) if shown(old, before) == shown(new, after) => return,
        (Some(old), Some(new)) => (Kind::Altered, format!("{}, was {}", shown(new, after), shown(old, before))),
        (None, Some(new)) => (Kind::Added, shown(new, after)),
        (Some(old), None) => (Kind::Removed, shown(old, before)),
        (None, None) => return,
    };
    changes.push(Change { kind: change.0, place: place.to_owned(), what: change.1 });
}

fn limits(old: &RuleSet, new: &RuleSet, changes: &mut Vec<Change>) {
    let (old, new) = (old.limits, new.limits);
    let mut compare = |what: &str, kind: Option<Kind>, old: String, new: String| {
        changes.extend(kind.map(|kind| Change { kind, place: "limits".to_owned(), what: format!("{what}: {old} -> {new}") }));
    };
    let (events, count) = ((old.rows_per_event, new.rows_per_event), (old.rows.count, new.rows.count));
    compare("rows_per_event", ordered(events.0, events.1), events.0.to_string(), events.1.to_string());
    compare("rows: count", ordered(count.0, count.1), count.0.to_string(), count.1.to_string());
    let per = |one: std::time::Duration| humantime::format_duration(one).to_string();
    compare("rows: per", ordered(new.rows.per, old.rows.per), per(old.rows.per), per(new.rows.per));
    let percent = |one: Option<u64>| one.unwrap_or(100);
    let shown = |one: Option<u64>| one.map_or("none".to_owned(), |percent| format!("{percent} %"));
    compare(
        "rows: percent",
        ordered(percent(old.rows.percent), percent(new.rows.percent)),
        shown(old.rows.percent),
        shown(new.rows.percent),
    );
}

/// What a delete of a row of each entity removes rows of, where that differs.
fn reach(old: &RuleSet, new: &RuleSet) -> BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> {
    let of = |rules: &RuleSet, name: &str| -> BTreeSet<String> {
        let id = rules.entity_ids().find(|(_, entity)| entity.name == name).map(|(id, _)| id);
        id.map(|id| removed(rules, id)).unwrap_or_default().into_iter().map(|id| rules.entity(id).name.clone()).collect()
    };
    let names: BTreeSet<&String> = old.entities.iter().chain(&new.entities).map(|entity| &entity.name).collect();
    let one = |name: &String| {
        let (before, after) = (of(old, name), of(new, name));
        let (more, less) = (after.difference(&before).cloned().collect(), before.difference(&after).cloned().collect());
        (before != after).then(|| (name.clone(), (more, less)))
    };
    names.into_iter().filter_map(one).collect()
}

fn ordered<T: Ord>(old: T, new: T) -> Option<Kind> {
    match old.cmp(&new) {
        std::cmp::Ordering::Less => Some(Kind::Widened),
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => Some(Kind::Narrowed),
    }
}

/// Whether rows may change or go by it.
fn acts(reference: &Reference) -> bool {
    reference.mode == Mode::Enforce && takes(reference)
}

/// Whether rows may change or go by it, once it is enforced.
fn takes(reference: &Reference) -> bool {
    let missing = reference.on_missing.as_ref().is_some_and(|missing| cost(&missing.then) > 0);
    harm(&reference.on_delete) > harm(&OnDelete::NoAction) || rewrites(reference.on_update) > rewrites(OnUpdate::NoAction) || missing
}

/// Whether rows may stay by it that would change or go without it, once it is enforced.
fn holds(reference: &Reference) -> bool {
    reference.on_delete == OnDelete::Restrict || reference.on_update == OnUpdate::Restrict
}

/// A reference that holds more rows lets fewer go.
fn turned(kind: Kind, references: [&Reference; 2]) -> Kind {
    match (references.into_iter().any(takes), references.into_iter().any(holds), kind) {
        (false, true, Kind::Widened) => Kind::Narrowed,
        (false, true, Kind::Narrowed) => Kind::Widened,
        (true, true, _) => Kind::Altered,
        _ => kind,
    }
}

/// How much an action takes: less than nothing, since it holds rows; nothing, values, rows.
fn harm(action: &OnDelete) -> u8 {
    match action {
        OnDelete::Restrict => 0,
        OnDelete::NoAction => 1,
        OnDelete::SetNull(_) | OnDelete::SetDefault(_) | OnDelete::Set(_) => 2,
        OnDelete::Cascade => 3,
    }
}

fn cost(action: &MissingAction) -> u8 {
    match action {
        MissingAction::Report | MissingAction::DeadLetter => 0,
        MissingAction::SetNull | MissingAction::SetDefault | MissingAction::Set(_) => 1,
        MissingAction::Delete => 2,
    }
}

fn rewrites(action: OnUpdate) -> u8 {
    match action {
        OnUpdate::Restrict => 0,
        OnUpdate::NoAction => 1,
        OnUpdate::Cascade | OnUpdate::SetNull | OnUpdate::SetDefault => 2,
    }
}

/// Each condition holds rows back: one less, or one with more values, lets more rows in.
fn conditions(old: &[When], new: &[When]) -> Option<Kind> {
    let sets = |when: &[When]| -> BTreeMap<String, BTreeSet<String>> {
        when.iter().map(|when| (when.column.clone(), when.values.iter().cloned().collect())).collect()
    };
    let (old, new) = (sets(old), sets(new));
    let holds = |these: &BTreeMap<String, BTreeSet<String>>, those: &BTreeMap<String, BTreeSet<String>>| {
        those.iter().all(|(column, values)| these.get(column).is_some_and(|these| these.is_subset(values)))
    };
    match (holds(&new, &old), holds(&old, &new)) {
        (true, true) => None,
        (true, false) => Some(Kind::Narrowed),
        (false, true) => Some(Kind::Widened),
        (false, false) => Some(Kind::Altered),
    }
}

fn missing(old: Option<&OnMissing>, new: Option<&OnMissing>) -> Option<Kind> {
    let taken = |one: Option<&OnMissing>| one.map_or(0, |one| cost(&one.then));
    if old == new {
        return None;
    }
    let wait = |one: Option<&OnMissing>| one.map(|one| one.wait);
    ordered(taken(old), taken(new)).or_else(|| ordered(wait(new), wait(old))).or(Some(Kind::Altered))
}

fn mode(mode: Mode) -> String {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Shadow => "shadow",
    }
    .to_owned()
}

fn action(reference: &Reference) -> String {
    words(&Reference { when: Vec::new(), mode: Mode::Enforce, ..reference.clone() })
}

fn update(action: OnUpdate) -> String {
    match action {
        OnUpdate::Cascade => "cascade",
        OnUpdate::SetNull => "set_null",
        OnUpdate::SetDefault => "set_default",
        OnUpdate::Restrict => "restrict",
        OnUpdate::NoAction => "no_action",
    }
    .to_owned()
}

fn when(when: &[When]) -> String {
    let one = |when: &When| format!("{} = {}", when.column, when.values.join(" | "));
    if when.is_empty() { "all rows".to_owned() } else { when.iter().map(one).collect::<Vec<_>>().join(", ") }
}

fn shown_missing(reference: &Reference) -> String {
    let Some(missing) = &reference.on_missing else { return "nothing".to_owned() };
    let then = match &missing.then {
        MissingAction::Delete => "delete",
        MissingAction::SetNull => "set_null",
        MissingAction::SetDefault => "set_default",
        MissingAction::Set(_) => "set",
        MissingAction::Report => "report",
        MissingAction::DeadLetter => "dead_letter",
    };
    format!("{then} after {}", humantime::format_duration(missing.wait))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{SourceFile, check};

    const RULES: &str = "
version: 1
mode: enforce
entities:
  - { name: a.person, table: persons, key: id, topic: t1 }
  - { name: b.order, table: orders, key: id, topic: t2 }
  - { name: b.line, table: lines, key: id }
references:
  - { name: order_person, child: b.order, columns: person, parent: a.person, on_delete: cascade }
  - { name: line_order, child: b.line, columns: order_id, parent: b.order, when: { kind: [x, y] }, on_delete: set_null }
limits: { rows_per_event: 100, rows: { count: 1000, per: 10m } }
";

    fn rules(text: &str) -> RuleSet {
        let checked = check(&[SourceFile { name: "r.yaml".to_owned(), text: text.to_owned() }]);
        checked.rules.unwrap_or_else(|| panic!("{:#?}", checked.diagnostics))
    }

    /// What replacing a text in the rules means.
    fn told(from: &str, to: &str) -> (Vec<(Kind, String)>, bool) {
        assert!(RULES.contains(from), "{from}");
        let diff = Diff::of(&rules(RULES), &rules(&RULES.replacen(from, to, 1)));
        (diff.changes.iter().map(|change| (change.kind, change.what.clone())).collect(), diff.may_do_more())
    }

    #[test]
    fn every_change_goes_one_way_and_its_opposite_the_other() {
        let cases = [
            ("on_delete: set_null", "on_delete: cascade", Kind::Widened, "on_delete: set_null order_id -> cascade"),
            ("on_delete: set_null", "on_delete: no_action", Kind::Narrowed, "on_delete: set_null order_id -> no_action"),
            ("on_delete: set_null", "on_delete: set_default", Kind::Altered, "on_delete: set_null order_id -> set_default order_id"),
            ("on_delete: set_null", "on_delete: restrict", Kind::Narrowed, "on_delete: set_null order_id -> restrict"),
            ("[x, y]", "[x, y, z]", Kind::Widened, "when: kind = x | y -> kind = x | y | z"),
            ("[x, y]", "[x]", Kind::Narrowed, "when: kind = x | y -> kind = x"),
            ("[x, y]", "[x, z]", Kind::Altered, "when: kind = x | y -> kind = x | z"),
            ("when: { kind: [x, y] }, ", "", Kind::Widened, "when: kind = x | y -> all rows"),
            ("on_delete: cascade", "on_delete: cascade, on_update: cascade", Kind::Widened, "on_update: no_action -> cascade"),
            ("on_delete: cascade", "on_delete: cascade, mode: shadow", Kind::Narrowed, "mode: enforce -> shadow"),
            ("on_delete: cascade", "on_delete: cascade, archive: none", Kind::Widened, "archive: true -> false"),
            ("rows_per_event: 100", "rows_per_event: 200", Kind::Widened, "rows_per_event: 100 -> 200"),
            ("per: 10m", "per: 5m", Kind::Widened, "rows: per: 10m -> 5m"),
            ("per: 10m", "per: 10m, percent: 5", Kind::Narrowed, "rows: percent: none -> 5 %"),
            ("table: lines", "table: rows", Kind::Altered, "table lines -> rows"),
            ("columns: person", "columns: payer", Kind::Altered, "b.order (payer) -> a.person (id), was b.order (person) -> a.person (id)"),
        ];
        for (from, to, kind, what) in cases {
            let (changes, more) = told(from, to);
            assert_eq!(changes, [(kind, what.to_owned())], "{from} -> {to}");
            assert_eq!(more, kind.may_do_more(), "{from} -> {to}");
            let back = Diff::of(&rules(&RULES.replacen(from, to, 1)), &rules(RULES));
            let opposite = match kind {
                Kind::Widened => Kind::Narrowed,
                Kind::Narrowed => Kind::Widened,
                same @ (Kind::Added | Kind::Altered | Kind::Removed | Kind::Inert) => same,
            };
            assert_eq!(back.changes.iter().map(|change| change.kind).collect::<Vec<_>>(), [opposite], "back from {to}");
        }
        assert_eq!(told("per: 10m", "per: 600s"), (Vec::new(), false));
    }

    /// A `restrict` keeps what hangs above it: less of it is more that goes.
    #[test]
    fn less_of_a_restrict_lets_more_go() {
        let base = RULES.replacen("on_delete: set_null", "on_delete: restrict", 1);
        let kinds = |from: &str, to: &str| {
            assert!(base.contains(from), "{from}");
            let diff = Diff::of(&rules(&base), &rules(&base.replacen(from, to, 1)));
            diff.changes.iter().map(|change| change.kind).collect::<Vec<_>>()
        };
        assert_eq!(kinds("on_delete: restrict", "on_delete: no_action"), [Kind::Widened]);
        assert_eq!(kinds("on_delete: restrict", "on_delete: restrict, mode: shadow"), [Kind::Widened]);
        assert_eq!(kinds("[x, y]", "[x]"), [Kind::Widened]);
        assert_eq!(kinds("[x, y]", "[x, y, z]"), [Kind::Narrowed]);
        assert_eq!(kinds("on_delete: restrict", "on_delete: no_action, on_update: restrict"), [Kind::Widened, Kind::Narrowed]);
        // It takes and holds at once: neither more nor less for sure.
        let both = base.replacen("on_delete: restrict", "on_delete: restrict, on_update: cascade", 1);
        let kinds = |new: &str| Diff::of(&rules(&both), &rules(new)).changes.iter().map(|change| change.kind).collect::<Vec<_>>();
        assert_eq!(kinds(&both.replacen("[x, y]", "[x]", 1)), [Kind::Altered]);
        let without = base.lines().filter(|line| !line.contains("line_order")).collect::<Vec<_>>().join("\n");
        assert_eq!(kinds(&without), [Kind::Widened]);
    }

    #[test]
    fn what_a_delete_newly_removes_is_told() {
        let old = rules(RULES);
        let new = rules(&RULES.replacen("on_delete: set_null", "on_delete: cascade", 1));
        let line: BTreeSet<String> = BTreeSet::from(["b.line".to_owned()]);
        let reach = Diff::of(&old, &new).reach;
        assert_eq!(reach.get("a.person"), Some(&(line.clone(), BTreeSet::new())));
        assert_eq!(reach.get("b.order"), Some(&(line, BTreeSet::new())));
    }

    #[test]
    fn a_reference_that_comes_or_goes_is_told_by_what_it_does() {
        let more = "references:\n  - { name: line_person, child: b.line, columns: person, parent: a.person, on_delete: ACTION }\n";
        let with = |action: &str| rules(&RULES.replacen("references:\n", &more.replace("ACTION", action), 1));
        let kinds = |old: &RuleSet, new: &RuleSet| Diff::of(old, new).changes.iter().map(|change| change.kind).collect::<Vec<_>>();
        assert_eq!(kinds(&rules(RULES), &with("cascade")), [Kind::Added]);
        assert_eq!(kinds(&rules(RULES), &with("no_action")), [Kind::Inert]);
        assert_eq!(kinds(&with("cascade"), &rules(RULES)), [Kind::Removed]);
        assert!(!Diff::of(&with("cascade"), &rules(RULES)).may_do_more());
    }
}
