//! What happens to databases while a person undoes a cascade: others hold its rows, connections are lost, newer rows come.

use entail::undo::{OnConflict, UndoError};

use crate::support::scripted::{Act, Cue};
use crate::support::world::*;

/// A customer's things, and a team and its captain that go back at once.
fn rules() -> String {
    let entities = "  - { name: shop.team, table: teams, key: id }\n  - { name: shop.player, table: players, key: id }\n";
    let of = |name: &str| {
        format!("  - {{ name: {name}_customer, child: shop.{name}, columns: customer, parent: crm.customer, on_delete: cascade }}\n")
    };
    THINGS.replace("references:\n", &format!("{entities}references:\n{}{}", of("team"), of("player")))
}
const TEAMS: &str = "
CREATE TABLE teams (id INTEGER PRIMARY KEY, customer INTEGER, captain INTEGER REFERENCES players (id) ON DELETE CASCADE);
CREATE TABLE players (id INTEGER PRIMARY KEY, customer INTEGER, team INTEGER REFERENCES teams (id) ON DELETE CASCADE);
CREATE INDEX tc ON teams (customer); CREATE INDEX tp ON teams (captain); CREATE INDEX pc ON players (customer); CREATE INDEX pt ON players (team);
INSERT INTO teams VALUES (1, 1, NULL); INSERT INTO players VALUES (1, 1, 1); UPDATE teams SET captain = 1;
";
const ALL: &str = "SELECT 'thing ' || id || '|' || customer || '|' || t FROM things UNION ALL SELECT 'other ' || id || '|' || coalesce(customer, '-') FROM others
    UNION ALL SELECT 'team ' || id || '|' || captain FROM teams UNION ALL SELECT 'player ' || id || '|' || team FROM players ORDER BY 1";

async fn opened() -> World {
    World::new(false, CUSTOMERS, &format!("{THING_TABLES}{TEAMS}"), &rules()).await
}

/// The customer is there, and goes.
async fn gone(world: &mut World) {
    sql(&world.crm, "INSERT OR IGNORE INTO customers VALUES (1)").await;
    world.gone(1).await;
}

/// Whatever it was about to do when its database went away: it says so, and the same command goes on from there.
#[tokio::test(flavor = "multi_thread")]
async fn h93_an_undo_that_loses_a_database_at_any_statement_says_so_and_goes_on_with_the_next() {
    let mut world = opened().await;
    let before = lines(&world.shop, ALL).await;
    for nth in 1.. {
        if nth % 20 == 0 {
            // Else the audit grows, and every look at it takes longer.
            world = opened().await;
        }
        gone(&mut world).await;
        world.script.cue(Cue { at: "", nth, act: Act::Fail });
        let undone = world.try_undo(root(1), OnConflict::Fail, false).await;
        if !world.script.is_played() {
            assert!(nth > 100, "{nth} statements are not a whole undo");
            break;
        }
        assert!(matches!(undone, Err(UndoError::Database { .. })), "statement {nth} failed, and nothing was said: {undone:?}");
        world.undo(root(1), OnConflict::Fail, false).await;
        assert_eq!(lines(&world.shop, ALL).await, before, "statement {nth}");
    }
}

/// An application holds what undo needs for a moment.
#[tokio::test(flavor = "multi_thread")]
async fn h92_an_undo_waits_for_whoever_is_in_its_way() {
    let mut world = opened().await;
    let before = lines(&world.shop, ALL).await;
    let moments = (1..=6).map(|nth| ("begin", nth)).chain((1..=4).map(|nth| ("commit", nth)));
    let moments = moments.chain([("sparing what is undone", 1), ("putting rows back into", 1), ("setting rows of", 1)]);
    for (at, nth) in moments {
        gone(&mut world).await;
        world.script.cue(Cue { at, nth, act: Act::Contend });
        let undone = world.undo(root(1), OnConflict::Fail, false).await;
        assert!(world.script.is_played(), "{at} {nth} was never met");
        assert_eq!((undone.left(), lines(&world.shop, ALL).await), (0, before.clone()), "{at} {nth}");
    }
}

/// A row with the key of an archived one comes at some moment, or the batch under way adds to the cascade at that moment as well.
#[tokio::test(flavor = "multi_thread")]
async fn h92_a_newer_row_that_comes_at_any_moment_of_an_undo_stays_and_is_told() {
    let newer = "INSERT OR IGNORE INTO things VALUES (3, 2, 'newer')";
    let grows = "UPDATE entail_cascades SET \"rows\" = \"rows\" + 1 WHERE reference = 'thing_customer'";
    for (more, said) in [("SELECT 1", "shop.thing 3: "), (grows, "a batch that was under way")] {
        let mut told = Vec::new();
        for nth in 1.. {
            let mut world = World::new(false, CUSTOMERS, THING_TABLES, THINGS).await;
            world.gone(1).await;
            world.script.cue(Cue { at: "begin", nth, act: Act::Interleave(vec![newer.to_owned(), more.to_owned()]) });
            let undone = world.try_undo(root(1), OnConflict::Fail, false).await;
            if !world.script.is_played() {
                break;
            }
            let things = lines(&world.shop, THINGS_NOW).await;
            let is_noted = !lines(&world.shop, "SELECT root_key FROM entail_undone").await.is_empty();
            let is_newer = things.contains(&"3|2|newer".to_owned());
            match undone {
                Ok(undone) if undone.is_written => assert!(!is_newer, "begin {nth}: {things:?}"),
                Ok(undone) => assert!(is_newer && undone.left() > 0 && !is_noted, "begin {nth}: {things:?} {undone:?}"),
                Err(UndoError::Conflict(why)) => {
                    assert!(is_newer && is_noted && things.len() == 2, "begin {nth}: {things:?} {why}");
                    told.push(why);
                }
                Err(other) => panic!("begin {nth}: {other}"),
            }
        }
        assert!(told.iter().any(|why| why.contains(said)), "{told:?}");
    }
}
