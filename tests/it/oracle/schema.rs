//! A random graph: tables over three databases, references with every action; its SQL, and its rules.

use std::fmt::Write as _;

use fastrand::Rng;

/// The services, each with a database of its own.
pub(super) const SERVICES: [&str; 3] = ["a", "b", "c"];

/// Tables and the references between them.
#[derive(Debug)]
pub(super) struct Schema {
    /// The PostgreSQL schema that holds the tables, in every database.
    pub(super) name: String,
    pub(super) tables: Vec<Table>,
    pub(super) edges: Vec<Edge>,
    /// No reference follows a key change.
    pub(super) fixed_keys: bool,
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: String,
    /// Place among [`SERVICES`].
    pub(super) database: usize,
    pub(super) key: Vec<String>,
    pub(super) columns: Vec<Column>,
    /// It has a second unique column, `code`, at which references may point.
    pub(super) coded: bool,
    /// Its whole rows are logged (replica identity).
    pub(super) full: bool,
}

#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) not_null: bool,
    pub(super) default: Option<i64>,
}

/// A reference.
#[derive(Debug)]
pub(super) struct Edge {
    pub(super) name: String,
    pub(super) child: usize,
    pub(super) columns: Vec<String>,
    pub(super) parent: usize,
    pub(super) parent_columns: Vec<String>,
    pub(super) on_delete: OnDelete,
    pub(super) on_update: OnUpdate,
    pub(super) declared: Declared,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OnDelete {
    Cascade,
    SetNull(Vec<String>),
    SetDefault,
    Restrict,
    NoAction,
    /// The reference's own `s…` column takes this value.
    Set(String, i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnUpdate {
    Cascade,
    SetNull,
    SetDefault,
    Restrict,
    NoAction,
}

/// Where a reference is declared, apart from the oracle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Declared {
    Rule,
    /// Both in the rules and by the service's own database.
    RuleAndNative,
    /// In the rules, beside a key of the service's own database that refuses where the rule acts.
    RuleBesideRefusal,
    /// By the service's own database alone.
    Native,
}

impl Edge {
    /// The oracle keeps it by a foreign key.
    pub(super) fn is_constraint(&self) -> bool {
        !matches!(self.on_delete, OnDelete::NoAction | OnDelete::Set(..))
    }

    /// The service's own database keeps it, too.
    pub(super) fn is_native(&self) -> bool {
        self.declared != Declared::Rule
    }

    /// It is in the rules.
    pub(super) fn is_rule(&self) -> bool {
        self.declared != Declared::Native
    }

    /// A key of a table on itself that refuses where the rule acts.
    pub(super) fn refuses_within(&self) -> bool {
        self.declared == Declared::RuleBesideRefusal && self.child == self.parent
    }

    /// It writes its column's default into rows.
    pub(super) fn sets_default(&self) -> bool {
        self.on_delete == OnDelete::SetDefault || self.on_update == OnUpdate::SetDefault
    }
}

impl Schema {
    /// Two to eight tables, and up to two references per table beside those that are part of keys.
    pub(super) fn random(rng: &mut Rng, name: &str) -> Self {
        let mut schema = Self { name: name.to_owned(), tables: Vec::new(), edges: Vec::new(), fixed_keys: rng.u8(0..3) == 0 };
        for place in 0..rng.usize(2..=8) {
            schema.add_table(rng, place);
        }
        for _ in 0..rng.usize(1..=2 * schema.tables.len()) {
            schema.add_edge(rng);
        }
        if rng.u8(0..3) == 0 {
            schema.add_chain(rng);
        }
        if rng.u8(0..4) == 0 {
            schema.add_thread(rng);
        }
        if rng.u8(0..4) == 0 {
            schema.add_tree(rng);
        }
        if !schema.edges.iter().any(Edge::is_rule) {
            schema.edges[0].declared = Declared::Rule;
        }
        schema
    }

    /// Cascades from database to database: below a row that lives on, others may have gone already.
    fn add_chain(&mut self, rng: &mut Rng) {
        for database in 0..SERVICES.len() {
            let place = self.add_plain_table(database);
            if database > 0 {
                self.cascade(rng, place, place - 1);
            }
        }
    }

    /// Comments and their answers: a table points at itself by a key that refuses, and its rows go by other references, too.
    fn add_thread(&mut self, rng: &mut Rng) {
        let Some(parent) = rng.choice(0..self.tables.len()).filter(|parent| self.tables[*parent].key == ["id"]) else { return };
        let place = self.add_plain_table((self.tables[parent].database + rng.usize(1..SERVICES.len())) % SERVICES.len());
        self.cascade(rng, place, parent);
        self.cascade(rng, place, place).declared = Declared::RuleBesideRefusal;
    }

    /// Groups under groups: a table whose key begins with its owner's points at itself by a native key, and its rows have keepers, too.
    fn add_tree(&mut self, rng: &mut Rng) {
        let plain: Vec<usize> = (0..self.tables.len()).filter(|table| self.tables[*table].key == ["id"]).collect();
        let Some((owner, other)) = rng.choice(&plain).zip(rng.choice(&plain)) else { return };
        let child = self.add_table_of(rng.usize(0..SERVICES.len()), &["d0", "n"], &["up"]);
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (on_delete, on_update) = (OnDelete::Cascade, OnUpdate::Cascade);
        let (columns, parent_columns) = (owned(&["d0"]), owned(&["id"]));
        self.push(rng, Draft { child, columns, parent: *owner, parent_columns, on_delete: on_delete.clone(), on_update });
        let (columns, parent_columns) = (owned(&["d0", "up"]), owned(&["d0", "n"]));
        self.push(rng, Draft { child, columns, parent: child, parent_columns, on_delete, on_update });
        self.edges.last_mut().expect("it was pushed").declared = if rng.bool() { Declared::Native } else { Declared::RuleAndNative };
        let keeper = if rng.u8(0..3) > 0 { owner } else { other };
        let kept = self.cascade(rng, child, *keeper);
        kept.on_delete = if rng.bool() { OnDelete::Cascade } else { OnDelete::SetNull(kept.columns.clone()) };
    }

    fn add_plain_table(&mut self, database: usize) -> usize {
        self.add_table_of(database, &["id"], &[])
    }

    fn add_table_of(&mut self, database: usize, key: &[&str], others: &[&str]) -> usize {
        let column = |name: &str, not_null| Column { name: name.to_owned(), not_null, default: None };
        let needed = ["u"].iter().chain(key).map(|name| column(name, true));
        let columns = needed.chain(others.iter().chain(&["note"]).map(|name| column(name, false))).collect();
        let (name, key) = (format!("t{}", self.tables.len()), key.iter().map(|part| (*part).to_owned()).collect());
        self.tables.push(Table { name, database, key, columns, coded: false, full: false });
        self.tables.len() - 1
    }

    /// A reference to a table with the key `id`, by a column of its own.
    fn cascade(&mut self, rng: &mut Rng, child: usize, parent: usize) -> &mut Edge {
        let columns = vec![format!("r{}_0", self.edges.len())];
        self.tables[child].columns.push(Column { name: columns[0].clone(), not_null: false, default: None });
        let (parent_columns, on_delete, on_update) = (vec!["id".to_owned()], OnDelete::Cascade, OnUpdate::Cascade);
        self.push(rng, Draft { child, columns, parent, parent_columns, on_delete, on_update });
        self.edges.last_mut().expect("it was pushed")
    }

    fn add_table(&mut self, rng: &mut Rng, place: usize) {
        let owner = (place > 0 && rng.u8(0..4) == 0).then(|| rng.usize(0..place)).filter(|owner| self.tables[*owner].key.len() <= 2);
        let key: Vec<String> = match owner {
            Some(owner) => (0..self.tables[owner].key.len()).map(|part| format!("d{part}")).chain(["n".to_owned()]).collect(),
            None if rng.u8(0..3) == 0 => vec!["t".to_owned(), "id".to_owned()],
            None => vec!["id".to_owned()],
        };
        let column = |name: &str, not_null| Column { name: name.to_owned(), not_null, default: None };
        let mut columns = vec![column("u", true)];
        columns.extend(key.iter().map(|name| column(name, true)));
        let coded = rng.u8(0..4) == 0;
        if coded {
            columns.push(column("code", rng.bool()));
        }
        columns.push(column("note", false));
        let (name, database) = (format!("t{place}"), rng.usize(0..SERVICES.len()));
        self.tables.push(Table { name, database, key: key.clone(), columns, coded, full: coded || rng.u8(0..4) == 0 });
        if let Some(owner) = owner {
            let columns = key[..key.len() - 1].to_vec();
            let on_delete = match rng.u8(0..8) {
                0 => OnDelete::Restrict,
                1 => OnDelete::NoAction,
                _ => OnDelete::Cascade,
            };
            let updates = [OnUpdate::Cascade, OnUpdate::Cascade, OnUpdate::Cascade, OnUpdate::Restrict, OnUpdate::NoAction];
            let on_update = rng.choice(updates).expect("not empty");
            let parent_columns = self.tables[owner].key.clone();
            self.push(rng, Draft { child: place, columns, parent: owner, parent_columns, on_delete, on_update });
        }
    }

    fn add_edge(&mut self, rng: &mut Rng) {
        let (child, parent) = (rng.usize(0..self.tables.len()), rng.usize(0..self.tables.len()));
        let number = self.edges.len();
        let by_code = self.tables[parent].coded && rng.bool();
        let parent_columns = if by_code { vec!["code".to_owned()] } else { self.tables[parent].key.clone() };
        let is_tenant = |table: usize| self.tables[table].key.first().is_some_and(|first| first == "t");
        // The tenant column of the child's own key is part of the reference.
        let shares = !by_code && is_tenant(child) && is_tenant(parent) && rng.u8(0..3) == 0;
        let own = if shares { 1 } else { 0 };
        let fresh: Vec<String> = (own..parent_columns.len()).map(|part| format!("r{number}_{part}")).collect();
        let mut columns: Vec<String> = if shares { vec!["t".to_owned()] } else { Vec::new() };
        columns.extend(fresh.iter().cloned());
        let set = format!("s{number}");
        let on_delete = match rng.u8(0..12) {
            0..5 => OnDelete::Cascade,
            5 | 6 if !shares && columns.len() > 1 && rng.bool() => OnDelete::SetNull(vec![columns[rng.usize(0..columns.len())].clone()]),
            5 | 6 => OnDelete::SetNull(fresh.clone()),
            7 | 8 if !shares => OnDelete::SetDefault,
            9 => OnDelete::Restrict,
            10 => OnDelete::NoAction,
            11 => OnDelete::Set(set.clone(), rng.i64(100..105)),
            _ => OnDelete::Cascade,
        };
        let on_update = match rng.u8(0..8) {
            0..3 => OnUpdate::Cascade,
            3 if !shares => OnUpdate::SetNull,
            4 if !shares => OnUpdate::SetDefault,
            5 if !shares => OnUpdate::Restrict,
            _ => OnUpdate::NoAction,
        };
        let draft = Draft { child, columns, parent, parent_columns, on_delete, on_update };
        let may_refuse_null = parent < child && !matches!(draft.on_delete, OnDelete::SetNull(_) | OnDelete::SetDefault);
        let may_refuse_null = may_refuse_null && !matches!(on_update, OnUpdate::SetNull | OnUpdate::SetDefault);
        let not_null = may_refuse_null && rng.u8(0..4) == 0;
        let table = &mut self.tables[child];
        table.columns.extend(fresh.into_iter().map(|name| Column { name, not_null, default: None }));
        if matches!(draft.on_delete, OnDelete::Set(..)) {
            table.columns.push(Column { name: set, not_null: false, default: None });
        }
        self.push(rng, draft);
    }

    fn push(&mut self, rng: &mut Rng, draft: Draft) {
        let Draft { child, columns, parent, parent_columns, on_delete, mut on_update } = draft;
        if self.fixed_keys {
            on_update = OnUpdate::NoAction;
        }
        // Without a constraint the oracle has nothing that could follow a changed key.
        if matches!(on_delete, OnDelete::NoAction | OnDelete::Set(..)) {
            on_update = OnUpdate::NoAction;
        }
        let mut edge = Edge {
            name: format!("e{}", self.edges.len()),
            child,
            columns,
            parent,
            parent_columns,
            on_delete,
            on_update,
            declared: Declared::Rule,
        };
        if edge.is_constraint() && self.tables[child].database == self.tables[parent].database {
            edge.declared = match rng.u8(0..6) {
                0 | 1 => Declared::RuleAndNative,
                2 => Declared::Native,
                // Two such keys in a circle would let nothing go, and within one table no rows in a circle (see `State::targets`).
                3 if parent < child || parent == child && !edge.sets_default() => Declared::RuleBesideRefusal,
                _ => Declared::Rule,
            };
        }
        self.edges.push(edge);
    }

    /// Key changes of this table are followed by some reference.
    pub(super) fn keys_may_change(&self, table: usize) -> bool {
        self.edges.iter().any(|edge| edge.parent == table && edge.is_rule() && edge.on_update != OnUpdate::NoAction)
    }

    /// The column lists by which rows of this table are pointed at.
    pub(super) fn targets(&self, table: usize) -> Vec<Vec<String>> {
        let mut targets = vec![self.tables[table].key.clone()];
        if self.tables[table].coded {
            targets.push(vec!["code".to_owned()]);
        }
        targets
    }

    pub(super) fn entity(&self, table: usize) -> String {
        let table = &self.tables[table];
        format!("{}.{}", SERVICES[table.database], table.name)
    }

    pub(super) fn topic(&self, table: usize) -> String {
        let table = &self.tables[table];
        format!("{}.{}.{}", SERVICES[table.database], self.name, table.name)
    }

    pub(super) fn qualified(&self, table: usize) -> String {
        format!("{}.{}", self.name, self.tables[table].name)
    }

    /// `CREATE TABLE` of one table, without foreign keys.
    pub(super) fn create(&self, table: usize) -> String {
        let (name, table) = (self.qualified(table), &self.tables[table]);
        let mut sql = format!("CREATE TABLE {name} (");
        for column in &table.columns {
            let default = column.default.map(|value| format!(" DEFAULT {value}")).unwrap_or_default();
            let not_null = if column.not_null { " NOT NULL" } else { "" };
            write!(sql, "{} int{default}{not_null}, ", column.name).expect("a String takes any text");
        }
        write!(sql, "PRIMARY KEY ({}), UNIQUE (u){});", table.key.join(", "), if table.coded { ", UNIQUE (code)" } else { "" })
            .expect("a String takes any text");
        if table.full {
            write!(sql, "ALTER TABLE {name} REPLICA IDENTITY FULL;").expect("a String takes any text");
        }
        sql
    }

    /// The reference as the service's own database has it.
    pub(super) fn in_service(&self, edge: &Edge) -> String {
        match edge.declared {
            Declared::Rule => String::new(),
            Declared::RuleAndNative | Declared::Native => self.native(edge),
            Declared::RuleBesideRefusal => {
                let on_delete = if edge.child.is_multiple_of(2) { OnDelete::Restrict } else { OnDelete::NoAction };
                self.foreign_key(edge, &on_delete)
            }
        }
    }

    /// The reference as a native foreign key, or as a trigger where SQL has no such action.
    pub(super) fn native(&self, edge: &Edge) -> String {
        let (child, parent) = (self.qualified(edge.child), self.qualified(edge.parent));
        if let OnDelete::Set(column, value) = &edge.on_delete {
            let pairs = edge.columns.iter().zip(&edge.parent_columns);
            let matches: Vec<String> = pairs.map(|(column, parent)| format!("{column} = OLD.{parent}")).collect();
            return format!(
                "CREATE FUNCTION {schema}.{name}() RETURNS trigger LANGUAGE plpgsql AS $$
                   BEGIN UPDATE {child} SET {column} = {value} WHERE {matches}; RETURN NULL; END $$;
                 CREATE TRIGGER {name} AFTER DELETE ON {parent} FOR EACH ROW EXECUTE FUNCTION {schema}.{name}();",
                schema = self.name,
                name = edge.name,
                matches = matches.join(" AND ")
            );
        }
        if edge.on_delete == OnDelete::NoAction { String::new() } else { self.foreign_key(edge, &edge.on_delete) }
    }

    fn foreign_key(&self, edge: &Edge, on_delete: &OnDelete) -> String {
        let (child, parent) = (self.qualified(edge.child), self.qualified(edge.parent));
        let on_delete = match on_delete {
            OnDelete::Cascade => "CASCADE".to_owned(),
            OnDelete::SetNull(columns) if *columns == edge.columns => "SET NULL".to_owned(),
            OnDelete::SetNull(columns) => format!("SET NULL ({})", columns.join(", ")),
            OnDelete::SetDefault => "SET DEFAULT".to_owned(),
            OnDelete::Restrict => "RESTRICT".to_owned(),
            OnDelete::NoAction => "NO ACTION".to_owned(),
            OnDelete::Set(..) => unreachable!("it is a trigger"),
        };
        let on_update = match edge.on_update {
            OnUpdate::Cascade => "CASCADE",
            OnUpdate::SetNull => "SET NULL",
            OnUpdate::SetDefault => "SET DEFAULT",
            OnUpdate::Restrict => "RESTRICT",
            OnUpdate::NoAction => "NO ACTION",
        };
        format!(
            "ALTER TABLE {child} ADD CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {parent} ({}) ON DELETE {on_delete} ON UPDATE {on_update};",
            edge.name,
            edge.columns.join(", "),
            edge.parent_columns.join(", ")
        )
    }

    /// The rules file.
    pub(super) fn rules(&self) -> String {
        let mut text = "version: 1\nmode: enforce\nentities:\n".to_owned();
        for (place, table) in self.tables.iter().enumerate() {
            let (entity, qualified, topic) = (self.entity(place), self.qualified(place), self.topic(place));
            let key = table.key.join(", ");
            writeln!(text, "  - {{ name: {entity}, table: {qualified}, key: [{key}], topic: {topic} }}").expect("a String takes any text");
        }
        text.push_str("references:\n");
        for edge in self.edges.iter().filter(|edge| edge.is_rule()) {
            let on_delete = match &edge.on_delete {
                OnDelete::Cascade => "cascade".to_owned(),
                OnDelete::SetNull(columns) if *columns == edge.columns => "set_null".to_owned(),
                OnDelete::SetNull(columns) => format!("{{ set_null: [{}] }}", columns.join(", ")),
                OnDelete::SetDefault => "set_default".to_owned(),
                OnDelete::Restrict => "restrict".to_owned(),
                OnDelete::NoAction => "no_action".to_owned(),
                OnDelete::Set(column, value) => format!("{{ set: {{ {column}: {value} }} }}"),
            };
            let on_update = match edge.on_update {
                OnUpdate::Cascade => "cascade",
                OnUpdate::SetNull => "set_null",
                OnUpdate::SetDefault => "set_default",
                OnUpdate::Restrict => "restrict",
                OnUpdate::NoAction => "no_action",
            };
            writeln!(
                text,
                "  - {{ name: {}, child: {}, columns: [{}], parent: {}, parent_columns: [{}], on_delete: {on_delete}, on_update: {on_update} }}",
                edge.name,
                self.entity(edge.child),
                edge.columns.join(", "),
                self.entity(edge.parent),
                edge.parent_columns.join(", ")
            )
            .expect("a String takes any text");
        }
        text
    }
}

/// A reference before it has a name.
struct Draft {
    child: usize,
    columns: Vec<String>,
    parent: usize,
    parent_columns: Vec<String>,
    on_delete: OnDelete,
    on_update: OnUpdate,
}
