//! What tables are now against what they were when the group last started (H74).

use std::collections::BTreeMap;

use crate::ledger::{self, Checked};
use crate::model::{Code, Model, Problem};
use crate::sink::SinkError;

/// Tables of the rules by entity or replica, in lines.
fn now(model: &Model) -> BTreeMap<String, Vec<String>> {
    let entities = model.rules.entity_ids().filter_map(|(id, entity)| Some((entity.name.clone(), model.table_if_any(id)?.table.lines())));
    let copies = model.replicas.iter().map(|copy| (model.rules.replica(copy.id).name.clone(), copy.table.lines()));
    entities.chain(copies).collect()
}

/// What is another since the last start; nothing for a group that never started.
pub(super) async fn judge(model: &Model, group: &str) -> Vec<Problem> {
    let now = now(model);
    let mut problems = BTreeMap::new();
    for id in model.targets() {
        let handle = model.databases.handle(id);
        match ledger::checked(&*handle.database, group).await {
            Ok(known) => {
                problems.extend(known.iter().filter_map(|(name, then)| Some((name.clone(), problem(name, then, now.get(name)?)?))))
            }
            Err(error) => drop(problems.insert(handle.name.clone(), super::subject::refusal(&handle.name, &error))),
        }
    }
    problems.into_values().collect()
}

fn problem(name: &str, then: &Checked, now: &[String]) -> Option<Problem> {
    let without =
        |lines: &[String], others: &[String]| -> Vec<String> { lines.iter().filter(|line| !others.contains(line)).cloned().collect() };
    let (was, is) = (without(&then.lines, now), without(now, &then.lines));
    if was.is_empty() && is.is_empty() {
        return None;
    }
    let listed = |lines: &[String]| if lines.is_empty() { "nothing".to_owned() } else { lines.join("; ") };
    let message = format!("the table is not what it was at the last start ({}): it had {}; it has {}", then.at, listed(&was), listed(&is));
    Some(Problem::new(Code::Drifted, name, message, "see that the rules still mean what they say; the next start takes it as it is"))
}

/// Notes what tables are, in every database that keeps a ledger, where that is news.
///
/// # Errors
/// Those of the databases.
pub async fn note(model: &Model, group: &str) -> Result<(), SinkError> {
    let now = now(model);
    for id in model.targets() {
        let database = &model.databases.handle(id).database;
        let known = ledger::checked(&**database, group).await?;
        let news: Vec<(String, Vec<String>)> = now
            .iter()
            .filter(|(name, lines)| known.get(*name).is_none_or(|known| known.lines != **lines))
            .map(|(name, lines)| (name.clone(), lines.clone()))
            .collect();
        if !news.is_empty() {
            let mut session = database.begin().await?;
            ledger::note_checked(session.as_mut(), database.dialect(), group, &news).await?;
            session.commit().await?;
        }
    }
    Ok(())
}
