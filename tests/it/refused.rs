//! Rows that a target's own database does not let go: the delete is a dead letter, all of it is as before, and the others go.

use std::collections::BTreeSet;

use crate::support::worker::{DEADLINE, Shop};

/// What protects order 5 of customer 5, what the log tells of it, and what takes the protection away.
const PROTECTIONS: [(&str, &str, &str); 2] = [
    (
        "CREATE FUNCTION protect() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN IF OLD.id = 5 THEN RAISE EXCEPTION 'order % of % has a secret', OLD.id, OLD.customer_id; END IF; RETURN OLD; END $$;
         CREATE TRIGGER protect BEFORE DELETE ON orders FOR EACH ROW EXECUTE FUNCTION protect()",
        "SQLSTATE P0001, PL/pgSQL function protect() line",
        "DROP TRIGGER protect ON orders",
    ),
    (
        "CREATE FUNCTION protect() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN UPDATE orders SET customer_id = customer_id WHERE id = 5 AND id = OLD.id; RETURN OLD; END $$;
         CREATE TRIGGER protect BEFORE DELETE ON orders FOR EACH ROW EXECUTE FUNCTION protect()",
        "SQLSTATE 27000",
        "DROP TRIGGER protect ON orders",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn h83_a_delete_that_a_trigger_refuses_is_a_dead_letter_and_the_others_go() {
    for (protection, reason, mend) in PROTECTIONS {
        let shop = Shop::open().await.extra("");
        shop.load(20, 3, 0).await;
        shop.execute("shop", protection).await;
        shop.execute("crm", "DELETE FROM customers WHERE id BETWEEN 4 AND 6").await;
        shop.bed.produce((4..=6).flat_map(|id| shop.delete(id, 80_000_000 + id)).collect()).await;
        let mut worker = shop.run("worker", &["--until-end"]);
        assert_eq!(worker.exit(DEADLINE).await, 0, "{}", worker.tail());
        let letters = shop.bed.read_all(&[&shop.dead_letters]).await;
        let left = shop.rows("shop", "SELECT CAST(id AS text) FROM orders WHERE id < 8 ORDER BY id").await.concat();
        assert_eq!(left, ["5", "7"], "{reason}");
        assert_eq!(shop.count("shipping", "SELECT count(*) FROM parcels WHERE order_id < 8").await, 4, "whole, or not at all: {reason}");
        let keys: BTreeSet<_> = letters.iter().map(|letter| letter.key.clone()).collect();
        assert_eq!(keys.len(), 1, "{letters:?}");
        for letter in &letters {
            let told = letter.header("entail.reason").unwrap_or_default();
            assert!(told.contains(reason) && !told.contains("secret"), "{told}");
        }
        shop.execute("shop", mend).await;
        let (code, out, said) = shop.command(&["replay", "--from", "beginning", "--apply"]).await;
        assert_eq!(code, 0, "{out}{said}");
        assert_eq!(shop.count("shop", "SELECT count(*) FROM orders WHERE id < 7").await, 0);
        assert_eq!(shop.count("shipping", "SELECT count(*) FROM parcels WHERE order_id < 7").await, 0);
    }
}
