//! Undo of rows that point at each other by native keys.

use entail::undo::OnConflict;

use crate::support::world::*;

const RULES: &str = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: crm.customers }
  - { name: shop.team, table: teams, key: id }
  - { name: shop.player, table: players, key: id }
references:
  - { name: team_customer, child: shop.team, columns: customer, parent: crm.customer, on_delete: cascade }
  - { name: player_customer, child: shop.player, columns: customer, parent: crm.customer, on_delete: cascade }
";

/// Every player is in a team, every team has a captain. Players 4 and 5 vouch for each other.
const TABLES: &str = "
CREATE TABLE teams (id INTEGER PRIMARY KEY, customer INTEGER, captain INTEGER);
CREATE TABLE players (id INTEGER PRIMARY KEY, customer INTEGER, team INTEGER NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
    vouched INTEGER REFERENCES players (id) ON DELETE CASCADE);
";
const POSTGRES_RING: &str = "ALTER TABLE teams ADD FOREIGN KEY (captain) REFERENCES players (id) ON DELETE CASCADE;";
const SQLITE_RING: &str = "DROP TABLE teams;
CREATE TABLE teams (id INTEGER PRIMARY KEY, customer INTEGER, captain INTEGER REFERENCES players (id) ON DELETE CASCADE);";
const ROWS: &str = "
CREATE INDEX tc ON teams (customer); CREATE INDEX tp ON teams (captain); CREATE INDEX pc ON players (customer); CREATE INDEX pt ON players (team);
CREATE INDEX pv ON players (vouched);
INSERT INTO teams VALUES (1, 1, NULL), (2, 2, NULL);
INSERT INTO players VALUES (1, 1, 1, NULL), (2, 2, 2, NULL), (3, 1, 1, 1), (4, 1, 1, NULL), (5, 1, 1, 4);
UPDATE players SET vouched = 5 WHERE id = 4; UPDATE teams SET captain = id;
";
const TEAMS_NOW: &str = "SELECT concat(id, '|', customer, '|', captain) FROM teams ORDER BY id";
const PLAYERS_NOW: &str = "SELECT concat(id, '|', customer, '|', team, '|', vouched) FROM players ORDER BY id";

async fn ringed(postgres: bool) -> World {
    let ring = if postgres { POSTGRES_RING } else { SQLITE_RING };
    World::new(postgres, CUSTOMERS, &format!("{TABLES}{ring}{ROWS}"), RULES).await
}

async fn now(world: &World) -> (Vec<String>, Vec<String>) {
    (lines(&world.shop, TEAMS_NOW).await, lines(&world.shop, PLAYERS_NOW).await)
}

/// Neither the team nor its captain can go back before the other: they go back at once, and what hangs below them after.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_point_at_each_other_go_back_at_once() {
    for postgres in [true, false] {
        let mut world = ringed(postgres).await;
        let before = now(&world).await;
        assert_eq!((before.0.len(), before.1.len()), (2, 5));
        world.gone(1).await;
        assert_eq!(now(&world).await, (vec!["2|2|2".to_owned()], vec!["2|2|2|".to_owned()]));
        let undone = world.undo(root(1), OnConflict::Fail, false).await;
        assert_eq!(now(&world).await, before, "postgres: {postgres}: {:?}", undone.tables);
        assert_eq!(undone.left(), 0, "{:?}", undone.tables);
        let again = world.undo(root(1), OnConflict::Fail, false).await;
        assert_eq!((again.left(), now(&world).await), (0, before), "a repeat does nothing: {:?}", again.tables);
    }
}

/// A parent beside the ring is gone for good: what needs it is told, and no ring is half there.
#[tokio::test(flavor = "multi_thread")]
async fn a_ring_whose_other_parent_is_gone_is_told() {
    for postgres in [true, false] {
        let mut world = ringed(postgres).await;
        sql(
            &world.shop,
            "CREATE TABLE towns (id INTEGER PRIMARY KEY); INSERT INTO towns VALUES (7); ALTER TABLE players ADD COLUMN town INTEGER REFERENCES towns (id)",
        )
        .await;
        sql(&world.shop, "UPDATE players SET town = 7 WHERE id = 4").await;
        world.rebind(None).await;
        world.gone(1).await;
        sql(&world.shop, "DELETE FROM towns").await;
        let undone = world.undo(root(1), OnConflict::Skip, false).await;
        let (teams, players) = now(&world).await;
        assert_eq!(teams, ["1|1|1", "2|2|2"], "postgres: {postgres}: {:?}", undone.tables);
        assert_eq!(players, ["1|1|1|", "2|2|2|", "3|1|1|1"], "postgres: {postgres}: {:?}", undone.tables);
        assert_eq!(undone.left(), 2, "{:?}", undone.tables);
        sql(&world.shop, "INSERT INTO towns VALUES (7)").await;
        let undone = world.undo(root(1), OnConflict::Fail, false).await;
        assert_eq!((undone.left(), now(&world).await.1.len()), (0, 5), "{:?}", undone.tables);
    }
}
