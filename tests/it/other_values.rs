//! What else a row was known by, when it is worked by one of its values.

use entail::engine::{Authority, Batch, Retry};

use crate::support::members::{PENDING, VISITS, bill, member, pending, seeded, settle, visit};

#[tokio::test(flavor = "multi_thread")]
async fn h26_another_value_of_a_row_is_judged_along_if_its_partition_is_ours_and_left_to_its_worker_if_not() {
    for is_ours in [true, false] {
        let mut bench = seeded(&[visit("on_delete: cascade"), bill("on_delete: restrict")].concat()).await;
        bench.execute("shop", "INSERT INTO visits VALUES (1, 1); INSERT INTO bills VALUES (1, 70)").await;
        let delete = member(&mut bench, "d", (1, 70), 12, &[]);
        settle(&bench, &[delete]).await;
        let (by_code, by_id) = (r#"["code"]|["70"]|restrict"#, r#"["id"]|["1"]|restrict"#);
        assert_eq!(bench.lines(PENDING).await, [by_code, by_id], "the bill refuses both");
        bench.execute("shop", "DELETE FROM bills").await;
        if !is_ours {
            bench.execute("shop", "UPDATE entail_pending SET \"partition\" = 7 WHERE root_key = '[\"70\"]'").await;
        }
        let of_id: Vec<Retry> = pending(&bench).await.into_iter().filter(|retry| retry.pending.columns == ["id"]).collect();
        assert_eq!(of_id.len(), 1);
        let batch = Batch { retries: of_id, ..Batch::default() };
        let report = bench.engine.work(&batch, Authority::Owner(&bench.epochs)).await.expect("works");
        bench.prove(report.waiting).await.expect("works");
        assert_eq!(bench.lines(VISITS).await, Vec::<String>::new(), "nothing refuses any more");
        let left = if is_ours { vec![] } else { vec![by_code] };
        assert_eq!(bench.lines(PENDING).await, left);
    }
}
