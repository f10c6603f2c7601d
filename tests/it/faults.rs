//! Faults of the real binary: stopped, killed, put to sleep, cut off from a database, fed with poison. Promises 1 to 4 at their hardest.

use std::time::{Duration, Instant};

use crate::support::kafka::Record;
use crate::support::postgres;
use crate::support::wait::wait_for;
use crate::support::worker::{DEADLINE, Shop, consumed, entail};

/// Customers of the big load, how many of them go, and how often those that stay are updated: 100,030 records with the heartbeats.
const BIG: (i64, i64, i64) = (43_333, 30_000, 3);

#[tokio::test(flavor = "multi_thread")]
async fn h105_sigterm_under_load_stops_in_time_and_the_next_start_finishes() {
    let shop = Shop::open().await.extra("batch: { events: 2000 }\nshutdown: 20s\n");
    let (all, gone, updates) = BIG;
    let records = shop.load(all, gone, updates).await;
    assert!(records >= 100_000, "{records} records");
    let mut first = shop.run("first", &[]);
    let assigned = first.until_log("partitions taken over").await;
    let idle = first.memory();
    shop.until_durable(records / 4).await;
    let loaded = first.memory();
    let asked = Instant::now();
    first.signal("TERM");
    assert_eq!(first.exit(Duration::from_secs(25)).await, 0);
    let stopped = asked.elapsed();
    let consumed_first = consumed(&first.accounts());
    let durable = shop.durable("shop").await;
    assert!(durable < records, "the stop came when all was done already");
    assert_eq!(i64::try_from(consumed_first).expect("not so many"), durable, "what is durable is accounted for, and nothing else");

    let mut second = shop.run("second", &[]);
    let began = Instant::now();
    shop.until_caught_up().await;
    let rate = f64::from(u32::try_from(records - durable).expect("not so many")) / began.elapsed().as_secs_f64();
    println!(
        "assigned {assigned:?} after the start; stopped within {stopped:?}; {rate:.0} records a second (start included); \
         resident MiB (now, at most): at the start {idle:?}, under load {loaded:?}, caught up {:?}",
        second.memory()
    );
    second.signal("TERM");
    assert_eq!(second.exit(Duration::from_secs(25)).await, 0);
    assert_eq!(i64::try_from(consumed(&second.accounts())).expect("not so many"), records - durable, "nothing is read twice");
    shop.assert_settled(all, gone, updates).await;
    let binary = std::fs::metadata(env!("CARGO_BIN_EXE_entail")).expect("the binary").len();
    println!("the binary has {} MiB", binary >> 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn h105_a_second_sigterm_stops_at_once() {
    let shop = Shop::open().await;
    shop.load(2_000, 1_000, 0).await;
    let mut worker = shop.run("worker", &[]);
    worker.until_log("partitions taken over").await;
    // A row that somebody else has locked: the batch in flight cannot end.
    let mut other = postgres::connect(&shop.urls["shop"]).await;
    let locked = "BEGIN; LOCK TABLE entail_progress IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(locked).execute(&mut other).await.expect("the lock");
    shop.bed.produce(shop.delete(5, 90_000_000).into()).await;
    wait_for("the worker to wait for the lock", DEADLINE, async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'entail%'";
        (shop.count("shop", waiting).await > 0).then_some(())
    })
    .await;
    worker.signal("TERM");
    worker.until_log("a second signal stops at once").await;
    let asked = Instant::now();
    worker.signal("TERM");
    assert_eq!(worker.exit(Duration::from_secs(2)).await, 130);
    println!("ended {:?} after the second signal", asked.elapsed());
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.expect("the lock is let go");
    let mut next = shop.run("next", &[]);
    shop.until_caught_up().await;
    next.signal("TERM");
    assert_eq!(next.exit(Duration::from_secs(25)).await, 0);
    shop.assert_settled(2_000, 1_000, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h46_kill_9_at_random_moments_loses_nothing_and_doubles_nothing() {
    let seed = std::env::var("ENTAIL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("ENTAIL_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let shop = Shop::open().await.extra("batch: { events: 1000 }\n");
    let (all, gone, updates) = BIG;
    let records = shop.load(all, gone, updates).await;
    let mut torn = 0;
    for round in 0..6_i64 {
        let mut worker = shop.run(&format!("round{round}"), &[]);
        worker.until_log("partitions taken over").await;
        // Somewhere in the next part of the load, at a moment that has nothing to do with the ends of batches.
        shop.until_durable((records * (round + 1) / 8).max(1)).await;
        if round % 2 == 1 {
            // Or just then: the parcels are committed, and the orders' COMMIT is on its way.
            let committing = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'entail' AND query ILIKE 'COMMIT%' AND wait_event = 'PgSleep'";
            wait_for("a commit under way", DEADLINE, async || (shop.count("shop", committing).await > 0).then_some(())).await;
        } else {
            tokio::time::sleep(Duration::from_millis(random.u64(0..400))).await;
        }
        worker.signal("KILL");
        assert_eq!(worker.exit(Duration::from_secs(10)).await, -1);
        // The server may not have noticed yet, and would go on with what it was told: here it dies with the worker.
        shop.execute("shop", "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'entail' AND datname = current_database()")
            .await;
        if round == 0 {
            shop.execute(
                "shop",
                // Entail has what is deferred checked before it commits: this puts itself off once more.
                "CREATE TABLE naps (n int);
                 CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.3); RETURN NEW; END $$;
                 CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON naps DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow();
                 CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                    SET CONSTRAINTS slow DEFERRED; INSERT INTO naps VALUES (1); RETURN NEW; END $$;
                 CREATE CONSTRAINT TRIGGER later AFTER UPDATE ON entail_progress DEFERRABLE INITIALLY DEFERRED
                    FOR EACH ROW WHEN (NEW.topic LIKE '%customers') EXECUTE FUNCTION later()",
            )
            .await;
        }
        let (shipping, orders) = (shop.durable("shipping").await, shop.durable("shop").await);
        torn += i32::from(shipping != orders);
        println!("killed with {orders} records durable where the orders are, {shipping} where the parcels are");
        assert!(orders < records, "the load was done before the last kill");
        // A living customer's rows are there at every moment.
        assert_eq!(shop.count("shop", &format!("SELECT count(*) FROM orders WHERE customer_id > {gone}")).await, all - gone);
    }
    println!("{torn} of 6 kills fell between the commits of two databases");
    assert!(torn > 0, "no kill fell between two commits");
    shop.execute("shop", "DROP TRIGGER later ON entail_progress").await;
    let before = shop.durable("shop").await.min(shop.durable("shipping").await);
    let mut last = shop.run("last", &[]);
    let began = Instant::now();
    shop.until_durable(before + 1).await;
    println!("resumed {:?} after the start", began.elapsed());
    shop.until_caught_up().await;
    last.signal("TERM");
    assert_eq!(last.exit(Duration::from_secs(25)).await, 0);
    last.accounts();
    shop.assert_settled(all, gone, updates).await;
}

/// A letter and what it was made from: all the same bytes, and the reason in headers.
fn assert_letter(letter: &Record, original: &Record, group: &str, stage: &str) {
    assert_eq!(letter.key, original.key);
    assert_eq!(letter.value, original.value);
    assert_eq!(letter.timestamp, original.timestamp);
    assert_eq!(letter.headers[..original.headers.len()], original.headers[..]);
    let (partition, offset) = (original.partition.to_string(), original.offset.to_string());
    let position = format!("{}[{partition}]@{offset}", original.topic);
    let expected = [
        ("entail.stage", stage),
        ("entail.position", &position),
        ("entail.group", group),
        ("__connect.errors.topic", &original.topic),
        ("__connect.errors.partition", &partition),
        ("__connect.errors.offset", &offset),
        ("__connect.errors.connector.name", group),
        ("__connect.errors.stage", stage),
    ];
    for (name, value) in expected {
        assert_eq!(letter.header(name), Some(value), "{name} of {position}");
    }
    for name in ["entail.reason", "entail.hint", "entail.attempt", "entail.time", "__connect.errors.exception.message"] {
        assert!(letter.header(name).is_some_and(|text| !text.is_empty()), "{name} of {position}: {:?}", letter.header("entail.reason"));
    }
    // Reasons never quote values (H98).
    let reason = letter.header("entail.reason").unwrap_or_default();
    assert!(!reason.contains("12abc") && !reason.contains("poison"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn h83_poison_records_are_dead_letters_and_the_others_are_applied() {
    let shop = Shop::open().await;
    shop.load(5_000, 2_500, 1).await;
    let raw = |key: &[u8], value: &[u8]| Record {
        key: Some(key.to_vec()),
        value: Some(value.to_vec()),
        timestamp: Some(1_795_427_968_000),
        headers: vec![("trace".to_owned(), Some(b"\xff\x00abc".to_vec())), ("empty".to_owned(), None)],
        ..Record::new(&shop.topic, "", None)
    };
    let good = |id: i64| shop.update(id, "name 1", 70_000_000 + id).value.expect("a value");
    let huge = vec![b'x'; 20_000_000];
    let poison = vec![
        (raw(b"{\"id\":4001}", b"{\"op\":\"d\", \"before\":"), "decode"),
        (raw(b"{\"id\":4002}", b"\xff\xfe{}"), "decode"),
        (raw(b"{\"id\":\"12abc\"}", b"{\"before\":{\"id\":\"12abc\",\"name\":null},\"after\":null,\"op\":\"d\",\"source\":{\"schema\":\"public\",\"table\":\"customers\"}}"), "decode"),
        (raw(b"{\"id\":4003,\"id\":4004}", &good(4003)), "decode"),
        (raw(b"{\"id\":4005}", &huge), "decode"),
        (Record { headers: raw(b"", b"").headers, timestamp: Some(1_795_427_968_001), ..shop.update(4_006, "poison", 80_000_000) }, "apply"),
        (Record { timestamp: Some(1_795_427_968_002), ..shop.update(4_007, "poison", 80_000_001) }, "apply"),
    ];
    let (records, stages): (Vec<Record>, Vec<&str>) = poison.into_iter().unzip();
    shop.bed.produce(records.clone()).await;
    // Good ones behind them, in every partition.
    let more: Vec<Record> =
        (2_501..=5_000).filter(|id| !(4_001..=4_007).contains(id)).map(|id| shop.update(id, "name 1", 90_000_000 + id)).collect();
    shop.bed.produce(more).await;
    let written = shop.bed.read_all(&[&shop.topic]).await;
    let total = written.len();
    assert!(total > 10_000, "{total} records");
    let mut worker = shop.run("worker", &[]);
    shop.until_caught_up().await;
    let letters = shop.bed.read_all(&[&shop.dead_letters]).await;
    assert_eq!(letters.len(), records.len());
    for (record, stage) in records.iter().zip(stages) {
        let same = |found: &&Record| found.key == record.key && found.value == record.value;
        let original = written.iter().find(same).expect("the record is in its topic");
        let letter = letters.iter().find(same).expect("a letter with these bytes");
        assert_letter(letter, original, &shop.group, stage);
    }
    worker.signal("TERM");
    assert_eq!(worker.exit(Duration::from_secs(25)).await, 0);
    let accounts = worker.accounts();
    assert_eq!(usize::try_from(consumed(&accounts)).expect("not so many"), total);
    println!("accounts {accounts}");
    shop.assert_settled(5_000, 2_500, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h83_a_flood_of_dead_letters_halts_its_partition_until_it_is_released() {
    let letters = "dead-letters";
    let shop = Shop::open().await;
    let letters = shop.bed.name(letters);
    let shop = shop.extra(&format!("dead_letters: {{ topic: {letters}, limit: {{ count: 5, per: 1h }} }}\n"));
    // First what cannot be read, in one partition; then what a constraint refuses, in another.
    for (name, partition, bad) in
        [("decode", 0, Record::new(&shop.topic, "{\"id\":1}", Some("{no json"))), ("apply", 1, shop.update(7, "poison", 5_000))]
    {
        let before: usize = shop.bed.read_all(&[&letters]).await.len();
        let mut flood: Vec<Record> = (0..20).map(|_| bad.clone().in_partition(partition)).collect();
        let good = if partition == 0 { 100 } else { 200 };
        flood.push(shop.update(good, "good", 6_000).in_partition(partition));
        // Another partition is not concerned.
        flood.push(shop.update(good + 1, "good", 6_001).in_partition(2));
        shop.bed.produce(flood).await;
        let scope = format!("partition:{}[{partition}]", shop.topic);
        for attempt in 0..2 {
            let mut worker = shop.run(&format!("{name}{attempt}"), &["--until-end"]);
            assert_eq!(worker.exit(DEADLINE).await, 3, "{}", worker.tail());
            worker.accounts();
            let found = shop.bed.read_all(&[&letters]).await.len();
            assert_eq!(found - before, 5, "{name}, attempt {attempt}: a halted partition stands still");
        }
        let copies = |id: i64| format!("SELECT count(*) FROM customer_copy WHERE id = {id}");
        assert_eq!(shop.count("shop", &copies(good)).await, 0);
        assert_eq!(shop.count("shop", &copies(good + 1)).await, 1);
        let next = format!("SELECT next_offset FROM entail_progress WHERE topic = '{}' AND \"partition\" = {partition}", shop.topic);
        assert_eq!(shop.count("shop", &next).await, 5, "{name}");
        let (code, listed, _) = shop.command(&["release"]).await;
        assert!(code == 0 && listed.contains(&scope) && listed.contains("more than 5 dead letters"), "{code}: {listed}");
        // Released, it goes on: to the next halt with this limit, to the end with a larger one.
        let (code, released, _) = shop.command(&["release", &scope]).await;
        assert!(code == 0 && released.contains("released"), "{code}: {released}");
        let settings = std::fs::read_to_string(shop.config()).expect("the settings");
        std::fs::write(shop.config(), settings.replace("count: 5,", "count: 50,")).expect("the settings are written");
        let mut worker = shop.run(&format!("{name}-released"), &["--until-end"]);
        assert_eq!(worker.exit(DEADLINE).await, 0, "{}", worker.tail());
        assert_eq!(shop.bed.read_all(&[&letters]).await.len() - before, 20);
        assert_eq!(shop.count("shop", &copies(good)).await, 1);
        std::fs::write(shop.config(), settings).expect("the settings are written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h31_a_zombie_commits_nothing_under_its_old_epoch() {
    let shop = Shop::open()
        .await
        .properties("session.timeout.ms: 6000, heartbeat.interval.ms: 1000, max.poll.interval.ms: 6000, fetch.wait.max.ms: 20")
        .extra("batch: { events: 500 }\n");
    let (all, gone, updates) = (26_666, 20_000, 3);
    let records = shop.load(all, gone, updates).await;
    let mut zombie = shop.run("zombie", &[]);
    shop.until_durable(records / 8).await;
    zombie.signal("STOP");
    let mut heir = shop.run("heir", &[]);
    heir.until_log("partitions taken over").await;
    let taken = "SELECT min(epoch) FROM entail_progress WHERE topic LIKE '%customers'";
    wait_for("the heir to have all partitions", DEADLINE, async || (shop.count("shop", taken).await >= 2).then_some(())).await;
    // From here on the heir's, and the zombie wakes up in the middle of it. Which epoch wrote which row, the database notes itself.
    shop.execute(
        "shop",
        "CREATE TABLE steps (id bigserial, \"partition\" bigint, epoch bigint, next_offset bigint);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO steps (\"partition\", epoch, next_offset) VALUES (NEW.\"partition\", NEW.epoch, NEW.next_offset); RETURN NEW; END $$;
         CREATE TRIGGER note AFTER UPDATE ON entail_progress FOR EACH ROW WHEN (NEW.topic LIKE '%customers') EXECUTE FUNCTION note()",
    )
    .await;
    let now = shop.durable("shop").await;
    assert!(now < records, "the heir was done before the zombie woke up");
    zombie.signal("CONT");
    shop.until_caught_up().await;
    zombie.until_log("lost to another worker").await;
    assert!(zombie.is_running(), "a worker that lost its partitions goes on with what the group gives it:\n{}", zombie.tail());
    let back = "SELECT count(*) FROM steps a JOIN steps b ON a.\"partition\" = b.\"partition\" AND b.id > a.id
        WHERE b.epoch < a.epoch OR b.next_offset < a.next_offset";
    assert_eq!(shop.count("shop", back).await, 0, "no commit under an old epoch, no step back");
    for worker in [&mut zombie, &mut heir] {
        worker.signal("TERM");
        assert_eq!(worker.exit(Duration::from_secs(25)).await, 0, "{}", worker.tail());
        worker.accounts();
    }
    shop.assert_settled(all, gone, updates).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_of_one_group_join_and_leave_under_load() {
    let shop = Shop::open().await.extra("batch: { events: 500 }\n");
    let (all, gone, updates) = (20_000, 14_000, 3);
    let records = shop.load(all, gone, updates).await;
    // Whoever has a partition from now on has something to do in it, however much was done while the group made up its mind.
    let stay = all - gone;
    let produce_more = async |round: i64| {
        let more = (gone + 1..=all).map(|id| shop.update(id, &format!("name {updates}"), round * 100_000_000 + id));
        shop.bed.produce(more.collect()).await;
    };
    let mut first = shop.run("first", &[]);
    shop.until_durable(records / 10).await;
    let mut second = shop.run("second", &[]);
    second.until_owner().await;
    produce_more(1).await;
    shop.until_durable(records * 3 / 10).await;
    first.signal("TERM");
    assert_eq!(first.exit(Duration::from_secs(25)).await, 0);
    shop.until_durable(records * 5 / 10).await;
    let mut third = shop.run("third", &[]);
    third.until_owner().await;
    produce_more(2).await;
    shop.until_durable(records * 7 / 10).await;
    second.signal("TERM");
    assert_eq!(second.exit(Duration::from_secs(25)).await, 0);
    shop.until_caught_up().await;
    third.signal("TERM");
    assert_eq!(third.exit(Duration::from_secs(25)).await, 0);
    let shares: Vec<u64> = [&first, &second, &third].into_iter().map(|worker| consumed(&worker.accounts())).collect();
    println!("records per worker: {shares:?}");
    assert!(shares.iter().all(|share| *share > 0));
    assert_eq!(i64::try_from(shares.iter().sum::<u64>()).expect("not so many"), records + 2 * stay, "each record is accounted for once");
    shop.assert_settled(all, gone, updates).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h77_two_workers_with_different_rules() {
    let shop = Shop::open().await.extra("batch: { events: 500 }\n");
    shop.load(4_000, 2_000, 1).await;
    let mut older = shop.run("older", &[]);
    shop.until_durable(1).await;
    let before = shop.rows("shop", "SELECT DISTINCT rules FROM entail_progress").await.remove(0).remove(0);
    let other = shop.dir.path().join("other.yaml");
    std::fs::write(
        &other,
        shop.rules().replace("on_delete: cascade }\n  - { name: parcel_order", "on_delete: set_null }\n  - { name: parcel_order"),
    )
    .expect("the rules are written");
    assert_ne!(std::fs::read_to_string(&other).expect("the rules"), shop.rules());
    let mut younger = shop.run("younger", &["--rules", other.to_str().expect("UTF-8")]);
    let others = format!("SELECT count(DISTINCT rules) FROM entail_progress WHERE rules <> '{before}'");
    wait_for("the younger's rules to be in the ledger", DEADLINE, async || (shop.count("shop", &others).await > 0).then_some(())).await;
    assert!(older.is_running(), "{}", older.tail());
    // Something to do for both.
    shop.bed.produce((2_001..2_401).map(|id| shop.update(id, "name 1", 90_000_000 + id)).collect()).await;
    assert_eq!(older.exit(DEADLINE).await, 3, "{}", older.tail());
    let said = older.tail();
    assert!(said.contains("error: ") && said.contains("rules") && said.contains("help: "), "{said}");
    shop.until_caught_up().await;
    younger.signal("TERM");
    assert_eq!(younger.exit(Duration::from_secs(25)).await, 0);
    // Each order of a customer that is gone went by one rule or by the other.
    assert_eq!(shop.count("shop", "SELECT count(*) FROM orders WHERE customer_id <= 2000").await, 0);
    let (nulled, archived) = (
        shop.count("shop", "SELECT count(*) FROM orders WHERE customer_id IS NULL").await,
        shop.count("shop", "SELECT count(*) FROM entail_archive WHERE action = 'delete'").await,
    );
    assert_eq!(nulled + archived, 2_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_at_the_start_is_told_with_its_place_and_the_way_out() {
    let shop = Shop::open().await;
    let settings = shop.settings();
    let url = |service: &str| shop.urls[service].clone();
    let closed = format!("postgres://postgres@127.0.0.1:{}/shop", postgres::free_port());
    let wrong_rules = |from: &str, to: &str| (settings.clone(), shop.rules().replace(from, to));
    let wrong_settings = |from: &str, to: &str| (settings.replace(from, to), shop.rules());
    // Name, settings and rules, exit code, what must be said.
    type Case<'a> = (&'a str, (String, String), i32, Vec<&'a str>);
    let cases: Vec<Case<'_>> = vec![
        ("no ledger", (settings.clone(), shop.rules()), 3, vec!["has no entail ledger", "entail migrate", "shipping"]),
        (
            "no such topic",
            wrong_rules("public.customers }", "public.costumers }"),
            2,
            vec!["do not exist", "public.costumers", "--allow-missing-topics"],
        ),
        ("no such table", wrong_rules("table: orders,", "table: oders,"), 2, vec!["oders", "shop.order", "help: "]),
        (
            "no such column",
            wrong_rules("columns: customer_id,", "columns: costumer_id,"),
            2,
            vec!["costumer_id", "order_customer", "help: "],
        ),
        ("no such copy", wrong_rules("name: name }", "name: nam }"), 2, vec!["nam", "customer_copy", "help: "]),
        (
            "no such database",
            wrong_settings(&url("shop"), &format!("{}x", url("shop"))),
            4,
            vec!["`shop`", "does not exist", "database in the url"],
        ),
        ("refused", wrong_settings(&url("shop"), &closed), 4, vec!["`shop`", "is the server up"]),
        (
            "no broker",
            wrong_settings(&shop.bed.kafka, &format!("127.0.0.1:{}", postgres::free_port())),
            4,
            vec!["kafka at 127.0.0.1", "kafka.brokers"],
        ),
        (
            "a password",
            wrong_settings(&url("shop"), "postgres://u:hunter2@127.0.0.1/shop"),
            2,
            vec!["password in clear", "entail.yaml:6", "${env:NAME}"],
        ),
        ("a typo", wrong_settings("group:", "gruop:"), 2, vec!["gruop", "entail.yaml:3", "help: "]),
    ];
    for (name, (settings, rules), code, words) in cases {
        let dir = shop.dir.path().join(name);
        std::fs::create_dir(&dir).expect("a directory");
        let config = dir.join("entail.yaml");
        std::fs::write(&config, settings).expect("the settings are written");
        std::fs::write(dir.join("rules.yaml"), rules).expect("the rules are written");
        // The ledger is what is missing in the first case only.
        let mut arguments = vec!["run", "--until-end", "--wait", "1s"];
        if name == "no such topic" {
            arguments.push("--migrate");
        }
        let began = Instant::now();
        let (found, stdout, stderr) = entail(&config, &arguments).await;
        assert_eq!(found, code, "{name}: {stderr}");
        for word in words {
            assert!(stderr.contains(word), "{name}: `{word}` is not in\n{stderr}");
        }
        assert!(!stderr.contains("hunter2") && stdout.is_empty(), "{name}: {stdout}\n{stderr}");
        assert!(began.elapsed() < Duration::from_secs(30), "{name} took {:?}", began.elapsed());
    }
}
