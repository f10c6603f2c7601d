//! Which rules a plan was made from: a hash of one reference, and of a whole rule set.
//!
//! Parked work and the ledger carry these texts, so the canonical form is fixed: JSON arrays in the order of the fields, hashed with
//! SHA-256. Every struct is taken apart by name: a new field does not compile until someone has decided whether it counts.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    Entity, Limits, Match, MissingAction, Mode, OnDelete, OnMissing, OnUpdate, Reference, Replica, RowsPer, RuleSet, TableName, When,
};

impl Reference {
    /// 64 hexadecimal digits that change with any field of the reference and with name, table and key of its entities. `rules` is the
    /// rule set that holds it.
    #[must_use]
    pub fn fingerprint(&self, rules: &RuleSet) -> String {
        hash(&reference(self, rules))
    }
}

impl Reference {
    /// What the reference joins, whatever it does: its tables, columns and conditions. `rules` is the rule set that holds it.
    #[must_use]
    pub fn shape(&self, rules: &RuleSet) -> String {
        let Self {
            name: _,
            child,
            columns,
            parent,
            parent_columns,
            when,
            matching: _,
            on_delete: _,
            on_update: _,
            on_missing: _,
            mode: _,
            archive: _,
            one_to_one: _,
        } = self;
        let when: Vec<Value> = when.iter().map(|When { column, values }| json!([column, values])).collect();
        let (child, parent) = (entity(rules.entity(*child)), entity(rules.entity(*parent)));
        hash(&json!([child, columns, parent, parent_columns, when]))
    }
}

impl RuleSet {
    /// 64 hexadecimal digits that change with anything that the rules say, order included; comments and layout do not matter.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let Self { entities, references, replicas, limits } = self;
        let Limits { rows_per_event, rows: RowsPer { count, per, percent } } = limits;
        hash(&json!([
            entities.iter().map(|e| json!([entity(e), e.topic])).collect::<Vec<_>>(),
            references.iter().map(|r| reference(r, self)).collect::<Vec<_>>(),
            replicas.iter().map(|r| replica(r, self)).collect::<Vec<_>>(),
            [json!(rows_per_event), json!(count), json!([per.as_secs(), per.subsec_nanos()]), json!(percent)],
        ]))
    }
}

fn hash(canonical: &Value) -> String {
    format!("{:x}", Sha256::digest(canonical.to_string()))
}

/// Without the topic: which topic carries the changes does not alter what is done.
fn entity(entity: &Entity) -> Value {
    let Entity { name, service: _, table: TableName { schema, table }, key, topic: _ } = entity;
    json!([name, schema, table, key])
}

fn reference(reference: &Reference, rules: &RuleSet) -> Value {
    let Reference {
        name,
        child,
        columns,
        parent,
        parent_columns,
        when,
        matching,
        on_delete: delete,
        on_update,
        on_missing,
        mode,
        archive,
        one_to_one: _,
    } = reference;
    let when: Vec<Value> = when.iter().map(|When { column, values }| json!([column, values])).collect();
    let missing = on_missing.as_ref().map(|OnMissing { wait, then }| json!([wait.as_secs(), wait.subsec_nanos(), missing(then)]));
    let (child, parent) = (entity(rules.entity(*child)), entity(rules.entity(*parent)));
    json!([
        name,
        child,
        columns,
        parent,
        parent_columns,
        when,
        match matching {
            Match::Simple => "simple",
            Match::Full => "full",
        },
        on_delete(delete),
        match on_update {
            OnUpdate::Cascade => "cascade",
            OnUpdate::SetNull => "set_null",
            OnUpdate::SetDefault => "set_default",
            OnUpdate::Restrict => "restrict",
            OnUpdate::NoAction => "no_action",
        },
        missing,
        match mode {
            Mode::Enforce => "enforce",
            Mode::Shadow => "shadow",
        },
        archive,
    ])
}

fn on_delete(action: &OnDelete) -> Value {
    match action {
        OnDelete::Cascade => json!(["cascade"]),
        OnDelete::SetNull(columns) => json!(["set_null", columns]),
        OnDelete::SetDefault(columns) => json!(["set_default", columns]),
        OnDelete::Set(values) => json!(["set", values.iter().collect::<Vec<_>>()]),
        OnDelete::Restrict => json!(["restrict"]),
        OnDelete::NoAction => json!(["no_action"]),
    }
}

fn missing(action: &MissingAction) -> Value {
    match action {
        MissingAction::Delete => json!(["delete"]),
        MissingAction::SetNull => json!(["set_null"]),
        MissingAction::SetDefault => json!(["set_default"]),
        MissingAction::Set(values) => json!(["set", values.iter().collect::<Vec<_>>()]),
        MissingAction::Report => json!(["report"]),
        MissingAction::DeadLetter => json!(["dead_letter"]),
    }
}

fn replica(replica: &Replica, rules: &RuleSet) -> Value {
    let Replica { name, service: _, of, table: TableName { schema, table }, columns } = replica;
    json!([name, entity(rules.entity(*of)), schema, table, columns])
}
