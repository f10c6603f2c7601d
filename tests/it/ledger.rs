//! What the ledger keeps is read back as it was, on both drivers.

use std::collections::BTreeSet;

use entail::change::{NextOffset, Position, SourcePosition, TopicPartition};
use entail::ledger::{self, Pending, PendingKind, ReplicaRow, Told, UndoneRoot};
use entail::sink::{Database, Session};

use crate::support::world::*;

fn at(partition: i32, offset: i64) -> Position {
    Position { partition: TopicPartition { topic: "crm.customers".into(), partition }, offset }
}

fn source(lsn: u64) -> SourcePosition {
    SourcePosition { source: "crm".into(), order: vec![lsn] }
}

async fn world(postgres: bool) -> World {
    World::new(postgres, CUSTOMERS, THING_TABLES, THINGS).await
}

fn database(world: &World) -> &dyn Database {
    let id = world.engine.model.databases.of_service("shop").expect("shop");
    &*world.engine.model.databases.handle(id).database
}

async fn begin(world: &World) -> Box<dyn Session> {
    database(world).begin().await.expect("begins")
}

#[tokio::test(flavor = "multi_thread")]
async fn h85_what_is_parked_is_read_back_as_it_was() {
    for postgres in [false, true] {
        let world = world(postgres).await;
        let root = |id: &str, kind, partition_known, source, beside| Pending {
            entity: "crm.customer".to_owned(),
            columns: vec!["id".to_owned(), "it's \"b\"".to_owned()],
            key: key(&[id, "\u{1f980},[']"]),
            reason: "wait".to_owned(),
            detail: "a 'detail'".to_owned(),
            kind,
            cause: at(3, i64::MAX - 1),
            partition_known,
            source,
            beside,
        };
        let roots = vec![
            root("1", PendingKind::Gone, true, Some(source(7)), vec![(vec!["code".to_owned()], key(&["70"]))]),
            root("2", PendingKind::Moved, false, None, Vec::new()),
            root("3", PendingKind::Hint, true, None, vec![(vec!["a".to_owned(), "b".to_owned()], key(&["", "x"]))]),
        ];
        let mut session = begin(&world).await;
        ledger::park(session.as_mut(), database(&world).dialect(), &world.engine.owner, &roots).await.expect("parks");
        session.commit().await.expect("commits");
        let read = async |partition, after: Option<&Pending>| {
            let partitions = BTreeSet::from([at(partition, 0).partition]);
            ledger::pending(database(&world), "it", &partitions, after, 10).await.expect("reads")
        };
        assert_eq!(read(3, None).await, roots, "postgres: {postgres}");
        assert_eq!(read(3, roots.first()).await, roots[1..]);
        assert!(read(2, None).await.is_empty());
        let listed = ledger::parked(database(&world), "it", 2).await.expect("reads");
        let listed: Vec<_> =
            listed.iter().map(|[entity, key, reason, _, cause, since]| (&**entity, &**key, &**reason, &**cause, since)).collect();
        let [first, second] = listed.as_slice() else { panic!("two at the most: {listed:?}") };
        assert_eq!((first.0, first.2, first.3), ("crm.customer", "wait", &*at(3, i64::MAX - 1).to_string()));
        assert!(first.1.contains("\"1\"") && second.1.contains("\"2\"") && first.4.starts_with("20"), "{listed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h92_of_what_was_undone_twice_the_later_word_counts() {
    for postgres in [false, true] {
        let world = world(postgres).await;
        let dialect = database(&world).dialect();
        let told = |offset, lsn: Option<u64>| Told {
            cascade: "c".to_owned(),
            reference: "thing_customer".to_owned(),
            action: "delete".to_owned(),
            rows: 1,
            root_entity: "crm.customer".to_owned(),
            root_columns: vec!["id".to_owned()],
            root_key: Some(key(&["1"])),
            cause: at(0, offset).to_string(),
            root_source: lsn.map(source),
            root_last: at(0, offset).to_string(),
            root_moved: false,
            at: String::new(),
        };
        let spare = async |cascades: &[Told]| {
            let mut session = begin(&world).await;
            ledger::spare(session.as_mut(), dialect, "it", cascades).await.expect("spares");
            let asked = [("crm.customer".to_owned(), vec!["id".to_owned()], key(&["1"]))];
            let undone = ledger::undone(session.as_mut(), dialect, "it", &asked).await.expect("reads");
            session.commit().await.expect("commits");
            let [UndoneRoot { partition, source, below, .. }] = undone.as_slice() else { panic!("one root: {undone:?}") };
            assert_eq!(*partition, at(0, 0).partition);
            (source.clone(), *below)
        };
        // Of two cascades of a root the last, in whichever order they come; nothing of the topic has been read yet.
        for order in [[(5, 50), (9, 60)], [(9, 60), (5, 50)]] {
            let cascades = order.map(|(offset, lsn)| told(offset, Some(lsn)));
            assert_eq!(spare(&cascades).await, (Some(source(60)), NextOffset(10)), "postgres: {postgres}");
            sql(&world.shop, "DELETE FROM entail_undone").await;
        }
        assert_eq!(spare(&[told(9, Some(60))]).await, (Some(source(60)), NextOffset(10)));
        assert_eq!(spare(&[told(5, Some(50))]).await, (Some(source(60)), NextOffset(6)), "an older one is undone after it");
        assert_eq!(spare(&[told(9, None)]).await.0, Some(source(60)));
        assert_eq!(spare(&[told(12, Some(70))]).await, (Some(source(70)), NextOffset(13)));
        // What has been read by now is known by now.
        sql(&world.shop, "INSERT INTO entail_progress (group_id, topic, \"partition\", epoch, next_offset, rules) VALUES ('it', 'crm.customers', 0, 1, 40, '')")
            .await;
        assert_eq!(spare(&[told(12, Some(70))]).await.1, NextOffset(40));
    }
}

/// Behind a gap the topic may be another one, and offsets of before mean nothing in it; what the source tells does.
#[tokio::test(flavor = "multi_thread")]
async fn h16_a_partition_that_begins_anew_forgets_what_was_undone_by_its_offsets() {
    for postgres in [false, true] {
        let world = world(postgres).await;
        let undone = |id: i64, partition: i64, source: &str| {
            format!(
                "INSERT INTO entail_undone (group_id, entity, columns, root_key, topic, \"partition\", source, below)
                VALUES ('it', 'crm.customer', '[\"id\"]', '[\"{id}\"]', 'crm.customers', {partition}, '{source}', 5);"
            )
        };
        let scope = "partition:crm.customers[0]";
        let seed = [undone(1, 0, ""), undone(2, 0, &source(7).to_string()), undone(3, 1, "")].concat();
        let progress = "INSERT INTO entail_progress (group_id, topic, \"partition\", epoch, next_offset, rules) VALUES ('it', 'crm.customers', 0, 4, 40, '')";
        sql(&world.shop, &format!("{seed}{progress}")).await;
        let release = async |reason: &str| {
            let latch = format!("INSERT INTO entail_latches (group_id, scope, reason, detail) VALUES ('it', '{scope}', '{reason}', '')");
            sql(&world.shop, &latch).await;
            let mut session = begin(&world).await;
            assert!(ledger::release(session.as_mut(), "it", scope).await.expect("releases"));
            assert!(!ledger::release(session.as_mut(), "it", scope).await.expect("releases"), "it is open");
            session.commit().await.expect("commits");
            let left = lines(&world.shop, "SELECT root_key FROM entail_undone ORDER BY 1").await;
            let at = lines(&world.shop, "SELECT CAST(next_offset AS TEXT) || ' ' || CAST(epoch AS TEXT) FROM entail_progress").await;
            (left.len(), at)
        };
        assert_eq!(release("paused").await, (3, vec!["40 4".to_owned()]), "postgres: {postgres}");
        assert_eq!(release(ledger::GAP).await, (2, vec![format!("{} 5", ledger::ANEW.0)]), "postgres: {postgres}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h15_how_far_copied_rows_are_known_is_read_back_as_it_was() {
    for postgres in [false, true] {
        let world = world(postgres).await;
        let dialect = database(&world).dialect();
        let rows = [(1, Some(source(7)), false), (2, None, true), (3, Some(source(9)), true)];
        let rows = rows.map(|(id, source, gone)| ReplicaRow { key: key(&[&id.to_string()]), source, gone });
        let mut session = begin(&world).await;
        ledger::note_replica_rows(session.as_mut(), dialect, "it", "copy", &rows).await.expect("notes");
        let asked: Vec<_> = (1..=4).map(|id| key(&[&id.to_string()])).collect();
        let known = ledger::replica_rows(session.as_mut(), dialect, "it", "copy", &asked).await.expect("reads");
        assert_eq!(known.into_values().collect::<Vec<_>>(), rows, "postgres: {postgres}");
        assert!(ledger::replica_rows(session.as_mut(), dialect, "it", "other", &asked).await.expect("reads").is_empty());
        session.rollback().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h78_which_references_are_new_is_read_back_until_they_are_promoted_or_left() {
    for postgres in [false, true] {
        let world = world(postgres).await;
        let dialect = database(&world).dialect();
        let known = async || {
            let known = ledger::known_references(database(&world), "it").await.expect("reads");
            known.into_iter().map(|(name, one)| (name, one.shape, one.is_new)).collect::<Vec<_>>()
        };
        let line = |name: &str, is_new| (name.to_owned(), format!("shape of {name}"), is_new);
        let mut session = begin(&world).await;
        ledger::note_references(session.as_mut(), dialect, "it", &[line("a", true), line("b", false), line("c", true)])
            .await
            .expect("notes");
        session.commit().await.expect("commits");
        assert_eq!(known().await, [line("a", true), line("b", false), line("c", true)], "postgres: {postgres}");
        let mut session = begin(&world).await;
        ledger::promote(session.as_mut(), "it", "a", "seen").await.expect("promotes");
        ledger::forget_references(session.as_mut(), dialect, "it", &BTreeSet::from(["b".to_owned()])).await.expect("forgets");
        session.commit().await.expect("commits");
        assert_eq!(known().await, [line("a", false), line("c", true)], "postgres: {postgres}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h74_what_tables_were_is_read_back_as_it_was() {
    for postgres in [false, true] {
        let world = world(postgres).await;
        let dialect = database(&world).dialect();
        let lines = |one: &str| vec![format!("id {one}"), "customer \"bigint\"".to_owned()];
        for now in ["bigint", "integer"] {
            let mut session = begin(&world).await;
            ledger::note_checked(session.as_mut(), dialect, "it", &[("shop.thing".to_owned(), lines(now))]).await.expect("notes");
            session.commit().await.expect("commits");
            let known = ledger::checked(database(&world), "it").await.expect("reads");
            let known: Vec<_> = known.into_iter().map(|(name, one)| (name, one.lines)).collect();
            assert_eq!(known, [("shop.thing".to_owned(), lines(now))], "postgres: {postgres}");
        }
    }
}

/// Whoever goes back to an older release is told so, and nothing is migrated.
#[tokio::test(flavor = "multi_thread")]
async fn h77_the_ledger_of_a_later_release_is_left_alone() {
    for postgres in [false, true] {
        let world = world(postgres).await;
        let later = "INSERT INTO entail_migrations (version, description, installed_on, success, checksum, execution_time)
            SELECT version + 1, 'later', installed_on, success, checksum, 0 FROM entail_migrations ORDER BY version DESC LIMIT 1";
        sql(&world.shop, later).await;
        let versions = lines(&world.shop, "SELECT CAST(version AS TEXT) FROM entail_migrations AS m ORDER BY m.version").await;
        for migrate in [false, true] {
            let error = entail::startup::ledgers(&world.engine.model, migrate).await.expect_err("refused");
            let said = entail::error::chain(&error);
            let last = versions.last().expect("a version");
            assert!(said.contains("later release") && said.contains(&format!("version {last}")), "{said}");
        }
        assert_eq!(lines(&world.shop, "SELECT CAST(version AS TEXT) FROM entail_migrations AS m ORDER BY m.version").await, versions);
        // Neither is one of an older release, nor none, called a later one.
        let last = "(SELECT max(version) FROM entail_migrations)";
        for older in [format!("DELETE FROM entail_migrations WHERE version >= {last} - 1"), "DELETE FROM entail_migrations".to_owned()] {
            sql(&world.shop, &older).await;
            let error = entail::startup::ledgers(&world.engine.model, false).await.expect_err("refused");
            assert!(entail::error::chain(&error).contains("no entail ledger"), "{error:?}");
        }
    }
}

/// Both databases stand on one machine: what the one calls now the other calls now.
#[tokio::test(flavor = "multi_thread")]
async fn h92_a_moment_is_the_same_by_the_clocks_of_two_databases_on_one_machine() {
    let [server, file] = [world(true).await, world(false).await];
    let clocks = [ledger::clock(database(&server)).await.expect("reads"), ledger::clock(database(&file)).await.expect("reads")];
    for (one, other) in [(&clocks[0], &clocks[1]), (&clocks[1], &clocks[0])] {
        let at = 1_700_000_000_000_000;
        let minutes = [one.by(other, at), one.earliest_by(other, at)].map(|by| (by - at).abs() / 60_000_000);
        assert_eq!(minutes, [0, 0], "{clocks:?}");
    }
}
