//! Set-ups that are bad in one way each.

use entail::model::Code;

mod beyond;
mod references;
mod tables;

/// The topics of a set-up.
pub(crate) enum Topic {
    /// Those of the good one.
    Good,
    /// The same with one partition each.
    Single,
    /// The same with these settings.
    Own(&'static [(&'static str, &'static str)]),
    /// The customers' topic holds these records.
    Written(&'static [(&'static str, Option<&'static str>)]),
}

/// A set-up that is bad in one way.
pub(crate) struct Bad {
    pub(crate) name: &'static str,
    /// Run by the superuser in a copy of the database; `ROLE` stands for the role.
    pub(crate) crm: &'static str,
    pub(crate) shop: &'static str,
    /// (text, what replaces it) in the rules.
    pub(crate) rules: &'static [(&'static str, &'static str)],
    /// The same in the settings.
    pub(crate) settings: &'static [(&'static str, &'static str)],
    pub(crate) topic: Topic,
    pub(crate) as_superuser: bool,
    /// All of these are found.
    pub(crate) found: &'static [Code],
    /// These may be found beside them: they follow.
    pub(crate) also: &'static [Code],
    /// What one of the problems found says.
    pub(crate) says: &'static str,
}

const GOOD: Bad = Bad {
    name: "",
    crm: "",
    shop: "",
    rules: &[],
    settings: &[],
    topic: Topic::Good,
    as_superuser: false,
    found: &[],
    also: &[],
    says: "",
};

/// Kinds of problems that need a server of their own, and the test that makes one.
pub(crate) const ELSEWHERE: &[(Code, &str)] = &[
    (Code::Standby, "h66_a_standby_a_server_without_a_logical_log_and_a_slot_that_lost_its_place_are_refused"),
    (Code::NotLogical, "h66_a_standby_a_server_without_a_logical_log_and_a_slot_that_lost_its_place_are_refused"),
    (Code::SlotLost, "h66_a_standby_a_server_without_a_logical_log_and_a_slot_that_lost_its_place_are_refused"),
    (Code::TopicRight, "h100_the_printed_access_to_kafka_is_enough_and_each_part_of_it_is_needed"),
    (Code::TopicSettings, "h100_the_printed_access_to_kafka_is_enough_and_each_part_of_it_is_needed"),
    (Code::Pooler, "h71_a_pooler_that_changes_sessions_or_drops_settings_is_refused_by_name"),
    (Code::Drifted, "h74_what_changed_since_the_last_start_is_told_once"),
    (Code::NewReference, "h78_check_names_a_reference_that_is_new_to_the_group"),
];

/// All of them.
pub(crate) fn cases() -> impl Iterator<Item = &'static Bad> {
    tables::CASES.iter().chain(references::CASES).chain(beyond::CASES)
}
