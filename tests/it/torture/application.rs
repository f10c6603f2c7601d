//! The application: families of rows over three services, in statements that one database with native foreign keys takes as well.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;

/// One statement of a service.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    pub(super) service: &'static str,
    pub(super) sql: String,
}

/// What lives, as far as the application knows.
pub(super) struct Application {
    rng: Rng,
    next: i64,
    /// Customers, with their orders.
    living: BTreeMap<i64, BTreeSet<i64>>,
    /// Customers that went in earlier rounds, and may come back under their old key.
    gone: Vec<i64>,
}

fn list(ids: impl IntoIterator<Item = i64>) -> String {
    ids.into_iter().map(|id| id.to_string()).collect::<Vec<_>>().join(", ")
}

fn values(rows: &[(i64, i64)]) -> String {
    rows.iter().map(|(id, parent)| format!("({id}, {parent})")).collect::<Vec<_>>().join(", ")
}

impl Application {
    pub(super) fn new(rng: Rng) -> Self {
        Self { rng, next: 1, living: BTreeMap::new(), gone: Vec::new() }
    }

    fn id(&mut self) -> i64 {
        self.next += 1;
        self.next
    }

    /// The statements of one round. Those that go are not touched any more, and those that come back went in a round before.
    pub(super) fn round(&mut self) -> Vec<Statement> {
        let mut statements = Vec::new();
        let (back, new) = (self.rng.usize(0..4), self.rng.usize(5..40));
        self.rng.shuffle(&mut self.gone);
        let back = self.gone.split_off(self.gone.len() - back.min(self.gone.len()));
        let fresh: Vec<i64> = back.into_iter().chain((0..new).map(|_| self.id()).collect::<Vec<_>>()).collect();
        for chunk in fresh.chunks(self.rng.usize(1..10)) {
            self.families(chunk, &mut statements);
        }
        let doomed: BTreeSet<i64> = self.living.keys().copied().filter(|_| self.rng.u8(0..5) < 2).collect();
        self.moves(&doomed, &mut statements);
        self.orders_go(&doomed, &mut statements);
        let doomed: Vec<i64> = doomed.into_iter().collect();
        for chunk in doomed.chunks(self.rng.usize(1..20)) {
            statements
                .push(Statement { service: "crm", sql: format!("DELETE FROM customers WHERE id IN ({})", list(chunk.iter().copied())) });
        }
        self.living.retain(|id, _| !doomed.contains(id));
        self.gone.extend(doomed);
        statements
    }

    /// New customers, each with orders, parcels of these, claims about those, and vouchers.
    fn families(&mut self, customers: &[i64], statements: &mut Vec<Statement>) {
        let (mut orders, mut parcels, mut claims, mut vouchers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for customer in customers {
            let mut own = BTreeSet::new();
            for _ in 0..self.rng.usize(0..4) {
                let order = self.id();
                own.insert(order);
                orders.push((order, *customer));
                for _ in 0..self.rng.usize(0..3) {
                    let parcel = self.id();
                    parcels.push((parcel, order));
                    if self.rng.bool() {
                        claims.push((self.id(), parcel, *customer));
                    }
                }
            }
            vouchers.extend((0..self.rng.usize(0..2)).map(|_| self.next + 1).map(|id| (id, *customer)));
            self.next += 2;
            self.living.insert(*customer, own);
        }
        let people: Vec<String> = customers.iter().map(|id| format!("({id}, 'customer {id}')")).collect();
        let mut push = |service, sql| statements.push(Statement { service, sql });
        push("crm", format!("INSERT INTO customers VALUES {}", people.join(", ")));
        if !orders.is_empty() {
            push("shop", format!("INSERT INTO orders VALUES {}", values(&orders)));
        }
        if !vouchers.is_empty() {
            push("shop", format!("INSERT INTO vouchers VALUES {}", values(&vouchers)));
        }
        if !parcels.is_empty() {
            push("shipping", format!("INSERT INTO parcels VALUES {}", values(&parcels)));
        }
        if !claims.is_empty() {
            let rows: Vec<String> = claims.iter().map(|(id, parcel, customer)| format!("({id}, {parcel}, {customer})")).collect();
            push("shipping", format!("INSERT INTO claims VALUES {}", rows.join(", ")));
        }
    }

    /// Orders that change hands, from anybody to somebody who stays.
    fn moves(&mut self, doomed: &BTreeSet<i64>, statements: &mut Vec<Statement>) {
        let staying: Vec<i64> = self.living.keys().copied().filter(|id| !doomed.contains(id)).collect();
        for _ in 0..self.rng.usize(0..10) {
            let all: Vec<(i64, i64)> =
                self.living.iter().flat_map(|(customer, orders)| orders.iter().map(|order| (*customer, *order))).collect();
            let (Some((from, order)), Some(to)) = (self.rng.choice(all), self.rng.choice(&staying)) else { return };
            self.living.entry(from).or_default().remove(&order);
            self.living.entry(*to).or_default().insert(order);
            statements.push(Statement { service: "shop", sql: format!("UPDATE orders SET customer_id = {to} WHERE id = {order}") });
        }
    }

    /// Orders that their own service removes.
    fn orders_go(&mut self, doomed: &BTreeSet<i64>, statements: &mut Vec<Statement>) {
        let mut gone = Vec::new();
        for orders in self.living.iter_mut().filter(|(customer, _)| !doomed.contains(customer)).map(|(_, orders)| orders) {
            if let Some(order) = orders.first().copied().filter(|_| self.rng.u8(0..8) == 0) {
                orders.remove(&order);
                gone.push(order);
            }
        }
        if !gone.is_empty() {
            statements.push(Statement { service: "shop", sql: format!("DELETE FROM orders WHERE id IN ({})", list(gone)) });
        }
    }

    /// Customers and orders of which a delete is forged: they live, and stay.
    pub(super) fn forged(&mut self) -> Vec<(&'static str, i64)> {
        let mut forged = Vec::new();
        for (customer, orders) in &self.living {
            if self.rng.u8(0..4) == 0 {
                forged.push(("customers", *customer));
            }
            forged.extend(orders.iter().filter(|_| self.rng.u8(0..8) == 0).map(|order| ("orders", *order)));
        }
        forged
    }
}
