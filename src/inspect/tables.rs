//! What runs or hides when rows of a table are read and changed: triggers, rules, policies, owners.

use std::collections::{BTreeMap, BTreeSet};

use super::Subject;
use crate::databases::DatabaseId;
use crate::model::{Code, Problem};
use crate::rules::{OnDelete, OnUpdate, TableName};
use crate::sink::facts::Privilege;
use crate::sink::spelling::table_name;

/// What the rules do to the rows of tables.
fn deeds(subject: &Subject<'_>) -> BTreeMap<(DatabaseId, TableName), BTreeSet<Privilege>> {
    let mut deeds: BTreeMap<(DatabaseId, TableName), BTreeSet<Privilege>> = BTreeMap::new();
    for reference in &subject.rules.references {
        let Some((id, table)) = subject.table(reference.child) else { continue };
        let deed = deeds.entry((id, table.table_name())).or_default();
        match &reference.on_delete {
            OnDelete::Cascade => drop(deed.insert(Privilege::Delete)),
            OnDelete::SetNull(_) | OnDelete::SetDefault(_) | OnDelete::Set(_) => drop(deed.insert(Privilege::Update)),
            OnDelete::Restrict | OnDelete::NoAction => {}
        }
        if matches!(reference.on_update, OnUpdate::Cascade | OnUpdate::SetNull | OnUpdate::SetDefault) {
            deed.insert(Privilege::Update);
        }
    }
    for copy in &subject.copies {
        let all = [Privilege::Insert, Privilege::Update, Privilege::Delete];
        deeds.entry((copy.database, copy.table.table_name())).or_default().extend(all);
    }
    deeds
}

pub(super) fn judge(subject: &Subject<'_>) -> Vec<Problem> {
    let deeds = deeds(subject);
    let mut problems = Vec::new();
    for (id, facts) in &subject.facts {
        for table in subject.tables_in(*id) {
            let Some(of_table) = facts.tables.get(&table.table_name()) else { continue };
            let place = format!("{}.{}", subject.databases.handle(*id).name, table.table_name());
            let mut found = |code, message: String, hint: String| problems.push(Problem::new(code, &place, message, hint));
            let name = table_name(&table.table_name());
            if of_table.has_row_security {
                let role = crate::sink::spelling::name(&facts.role);
                let message = format!("row security applies to role `{}`: a row that it hides would look gone", facts.role);
                found(Code::RowSecurity, message, format!("ALTER ROLE {role} BYPASSRLS, or ALTER TABLE {name} DISABLE ROW LEVEL SECURITY"));
            }
            if of_table.is_owned && !facts.is_superuser {
                let message = format!("role `{}` owns the table, so it may alter and drop it", facts.role);
                found(Code::OwnsTable, message, "a role of its own, with the grants that `entail check --grants` prints".to_owned());
            }
            let Some(deed) = deeds.get(&(*id, table.table_name())) else { continue };
            for (trigger, events) in &of_table.triggers {
                let met: Vec<&str> = events.intersection(deed).map(|event| event.as_str()).collect();
                if !met.is_empty() {
                    let message = format!("trigger `{trigger}` runs when entail changes rows here ({})", met.join(", "));
                    found(
                        Code::Trigger,
                        message,
                        "see that it neither refuses nor keeps rows, and that it wants these changes too".to_owned(),
                    );
                }
            }
            for rule in &of_table.rules {
                let message = format!("rule `{rule}` rewrites statements that change rows here");
                found(
                    Code::RewriteRule,
                    message,
                    format!("DROP RULE {} ON {name}, or write it as a trigger", crate::sink::spelling::name(rule)),
                );
            }
        }
    }
    problems
}
