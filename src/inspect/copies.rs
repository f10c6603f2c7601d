//! What can go wrong in a copy that its table shows.

use super::Subject;
use crate::model::{Code, Problem};

pub(super) fn judge(subject: &Subject<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for copy in &subject.copies {
        let place = &subject.rules.replica(copy.id).name;
        let others = copy.table.unique_keys().iter().filter(|unique| !copy.key.iter().all(|column| unique.contains(column)));
        for unique in others {
            let message = format!("({}) is unique in the copy, too: rows that pass a value on in between would collide", unique.join(", "));
            problems.push(Problem::new(Code::CopyOtherUnique, place, message, "drop that unique key from the copy"));
        }
        let Some((_, owner)) = subject.table(copy.of) else { continue };
        let has_default =
            |here: &&String| owner.column(here).is_some_and(|column| column.nullable && column.default.is_some() && !column.generated);
        for column in copy.columns.iter().map(|(here, _)| here).filter(has_default) {
            let message = format!("`{column}` may be null and has a default, which some converters write in the place of null");
            let hint =
                "set `key.converter.replace.null.with.default` and `value.converter.replace.null.with.default` to false in the connector";
            problems.push(Problem::new(Code::CopyDefault, place, message, hint));
        }
    }
    problems
}
