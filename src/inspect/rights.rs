//! What the role may do, against what these rules need.

use std::collections::{BTreeMap, BTreeSet};

use super::Subject;
use crate::databases::DatabaseId;
use crate::grants::{self, Needs, Purpose};
use crate::model::{Code, Problem};
use crate::rules::TableName;
use crate::sink::facts::{self, Facts, Privilege, Right};
use crate::sink::spelling;

pub(super) async fn judge(subject: &Subject<'_>) -> Vec<Problem> {
    let Some(model) = &subject.model else { return Vec::new() };
    let mut problems = Vec::new();
    for (id, facts) in &subject.facts {
        let needs = grants::needs(model, *id);
        let handle = subject.databases.handle(*id);
        // Without a ledger nothing can be granted on it: that is told apart.
        let has_ledger = facts.tables_of_ledger;
        let rights: Vec<Right> = needs.keys().cloned().collect();
        match facts::holds(&*handle.database, &rights).await {
            Ok(held) => {
                let missing = rights.iter().zip(held).filter(|(right, held)| !held && (has_ledger || right.table.schema.is_some()));
                problems.extend(missing_rights(&handle.name, facts, &needs, missing.map(|(right, _)| right)));
            }
            Err(error) => problems.push(super::subject::refusal(&handle.name, &error)),
        }
        if !facts.is_superuser {
            problems.extend(needless(subject, *id, facts, &needs));
        }
    }
    problems
}

/// One finding for each table and purpose.
fn missing_rights<'a>(database: &str, facts: &Facts, needs: &Needs, missing: impl Iterator<Item = &'a Right>) -> Vec<Problem> {
    let mut by_table: BTreeMap<(Purpose, &TableName), Vec<&Right>> = BTreeMap::new();
    for right in missing {
        let purpose = needs.get(right).copied().unwrap_or(Purpose::Run);
        by_table.entry((purpose, &right.table)).or_default().push(right);
    }
    let one = |((purpose, table), rights): ((Purpose, &TableName), Vec<&Right>)| {
        let what = grants::in_words(table, &rights);
        let (code, need) = match purpose {
            Purpose::Run => (Code::MissingRight, "these rules need"),
            Purpose::Undo => (Code::MissingUndoRight, "`entail undo` needs"),
        };
        let message = format!("role `{}` lacks {what}, which {need}", facts.role);
        Problem::new(code, format!("{database}.{table}"), message, format!("GRANT {what} TO {}", spelling::name(&facts.role)))
    };
    by_table.into_iter().map(one).collect()
}

/// Rights to change tables that no rule changes: one finding per table.
fn needless(subject: &Subject<'_>, id: DatabaseId, facts: &Facts, needs: &Needs) -> Vec<Problem> {
    let needed: BTreeSet<(&TableName, Privilege)> = needs.keys().map(|right| (&right.table, right.privilege)).collect();
    let owned = |table: &TableName| facts.tables.get(table).is_some_and(|facts| facts.is_owned);
    let is_ledger = |table: &TableName| table.table.starts_with("entail_");
    let mut beyond: BTreeMap<&TableName, Vec<&str>> = BTreeMap::new();
    for (table, privilege) in &facts.may_change {
        if !needed.contains(&(table, *privilege)) && !is_ledger(table) && !owned(table) {
            beyond.entry(table).or_default().push(privilege.as_str());
        }
    }
    let database = &subject.databases.handle(id).name;
    let one = |(table, privileges): (&TableName, Vec<&str>)| {
        let (what, name, role) = (privileges.join(", "), spelling::table_name(table), spelling::name(&facts.role));
        Problem::new(
            Code::NeedlessRight,
            format!("{database}.{table}"),
            format!("role `{}` may {what} here, which these rules never do", facts.role),
            format!("REVOKE {what} ON {name} FROM {role} (or from the role or PUBLIC through which it holds it)"),
        )
    };
    beyond.into_iter().map(one).collect()
}
