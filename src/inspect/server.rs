//! The server, the role and the ledger.

use super::Subject;
use crate::config::Config;
use crate::ledger;
use crate::model::{Code, Problem};
use crate::newcomers;
use crate::sink::SinkError;

pub(super) fn judge(subject: &Subject<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (id, facts) in &subject.facts {
        let name = &subject.databases.handle(*id).name;
        let is_written = subject.written().any(|written| written == *id);
        if facts.is_standby {
            let message = "the server is a standby: a parent that it does not have yet, or still has, would decide";
            problems.push(Problem::new(Code::Standby, name, message, "name the primary in the url"));
        } else if facts.is_read_only && is_written {
            let message = format!("transactions of role `{}` begin read-only", facts.role);
            let hint = format!("ALTER ROLE {} RESET default_transaction_read_only", crate::sink::spelling::name(&facts.role));
            problems.push(Problem::new(Code::ReadOnly, name, message, hint));
        }
        if facts.is_superuser {
            let message = format!("role `{}` is a superuser: a mistake in the rules meets no wall", facts.role);
            problems.push(Problem::new(
                Code::Superuser,
                name,
                message,
                "a role of its own, with the grants that `entail check --grants` prints",
            ));
        }
    }
    problems
}

/// Whether the databases that the rules write keep a ledger, and which references are new to it.
pub(super) async fn ledgers(subject: &Subject<'_>, config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    for id in subject.written() {
        let handle = subject.databases.handle(id);
        match ledger::exists(&*handle.database, &handle.name).await {
            Ok(()) => {}
            Err(SinkError::NoLedger { .. }) => {
                let message = "there is no ledger of this program's version";
                problems.push(Problem::new(Code::NoLedger, &handle.name, message, "entail migrate"));
            }
            Err(error @ SinkError::LaterLedger { .. }) => {
                problems.push(Problem::new(Code::LaterLedger, &handle.name, error.to_string(), error.hint()));
            }
            Err(error) => problems.push(super::subject::refusal(&handle.name, &error)),
        }
    }
    let Some(model) = subject.model.as_ref().filter(|_| problems.is_empty()) else { return problems };
    match newcomers::find(model, &model.rules, &config.kafka.group, config.new_references, false).await {
        Ok(names) => problems.extend(names.into_iter().map(|name| {
            let message = format!("new to group `{}`: it begins in shadow", config.kafka.group);
            Problem::new(Code::NewReference, &name, message, format!("entail promote {name}, when its counts are what you expect"))
        })),
        Err(error) => problems.push(super::subject::refusal("the ledger", &error)),
    }
    problems.extend(super::drift::judge(model, &config.kafka.group).await);
    problems
}
