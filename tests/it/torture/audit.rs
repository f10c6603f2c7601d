//! What the databases themselves say at the end: under which epoch each worker committed, and what the archive holds.

use std::collections::BTreeMap;

use super::world::World;

/// Tables of the audit, made beside the ledger before the first worker starts: every change of the ledger's progress, with the name of the process.
/// Rows of one partition are written under that row's lock, so their order is that of the commits.
pub(super) const TABLES: &str = "
CREATE TABLE audit (n bigserial PRIMARY KEY, process text, topic text, part bigint, epoch bigint, next_offset bigint);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO audit (process, topic, part, epoch, next_offset)
        VALUES (current_setting('application_name'), NEW.topic, NEW.\"partition\", NEW.epoch, NEW.next_offset);
    RETURN NEW;
END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON entail_progress FOR EACH ROW EXECUTE FUNCTION audit();";

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Audit {
    pub(super) takeovers: u64,
    pub(super) commits: u64,
    /// Commits by another process than the one that holds the epoch, or under an epoch that is not the last.
    pub(super) fenced_commits: u64,
    /// Next offsets that went back.
    pub(super) steps_back: u64,
    pub(super) archived: i64,
    pub(super) archived_twice: i64,
    pub(super) archived_and_living: i64,
    pub(super) dead_letters: i64,
    pub(super) latches: i64,
    pub(super) pending: i64,
}

pub(super) async fn check(world: &World) -> Audit {
    let mut audit = Audit::default();
    for service in ["shop", "shipping"] {
        let sql = "SELECT topic || '|' || part || '|' || epoch || '|' || next_offset || '|' || process FROM audit ORDER BY n";
        let mut owners: BTreeMap<String, (i64, i64, String)> = BTreeMap::new();
        for line in world.lines(service, sql).await {
            let parts: Vec<&str> = line.split('|').collect();
            let [topic, part, epoch, next, process] = parts[..] else { panic!("{line}") };
            let number = |text: &str| text.parse::<i64>().expect("a number");
            let (epoch, next) = (number(epoch), number(next));
            let known = owners.entry(format!("{topic}[{part}]")).or_insert_with(|| (0, 0, String::new()));
            audit.steps_back += u64::from(next < known.1);
            if epoch > known.0 {
                audit.takeovers += 1;
                *known = (epoch, next, process.to_owned());
            } else {
                audit.commits += 1;
                audit.fenced_commits += u64::from(epoch != known.0 || process != known.2);
                known.1 = next;
            }
        }
        let count = async |sql: &str| world.count(service, sql).await;
        audit.archived += count("SELECT count(*) FROM entail_archive WHERE action = 'delete'").await;
        audit.archived_twice +=
            count("SELECT count(*) - count(DISTINCT (entity, row_key)) FROM entail_archive WHERE action = 'delete'").await;
        for (table, entity) in world.tables(service) {
            let living = format!(
                "SELECT count(*) FROM entail_archive JOIN {table} AS t ON row_key = '[\"' || t.id || '\"]' WHERE entity = '{entity}' AND action = 'delete'"
            );
            audit.archived_and_living += count(&living).await;
        }
        audit.latches += count("SELECT count(*) FROM entail_latches").await;
        audit.pending += count("SELECT count(*) FROM entail_pending").await;
    }
    audit.dead_letters = world.dead_letters().await;
    assert_eq!(audit.steps_back, 0, "the ledger's next offsets only grow");
    audit
}
