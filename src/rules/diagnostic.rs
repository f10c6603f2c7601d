//! What is wrong with the rules, as data, and how it is shown.
//!
//! Apart from the checks, so that a problem can be counted, sorted, tested and printed in two forms without being found twice. A problem
//! points at bytes of a file; lines and columns are worked out only when it is shown. Knows nothing of YAML or of what the rules mean.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::Serialize;

use super::syntax::{SourceFile, Spot};

/// Longest line that is shown, in bytes; of a longer one only the place is named.
const MAX_LINE_BYTES: usize = 500;
/// Code of a problem whose lines hold a secret: they are named, and never shown, whatever else is wrong on them (H98).
pub(crate) const LITERAL_SECRET: &str = "literal-secret";

/// Whether the rules can be used all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// No rule set is made.
    Error,
    /// The rules can be used; a person should look.
    Warning,
}

impl Severity {
    /// The word shown: `error`, `warning`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One problem, where it is, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// What kind of problem, in kebab-case: `unknown-key`. Stable, for scripts.
    pub code: &'static str,
    /// The file, as its [`SourceFile`] is named.
    pub file: String,
    /// The bytes of the file that are wrong; may be empty.
    pub span: Range<usize>,
    /// The problem in one sentence, with the name of what it concerns.
    pub message: String,
    /// A few words under the marked text; may be empty.
    pub label: String,
    /// What to do.
    pub hint: Option<String>,
    /// Other places that have to do with it.
    pub related: Vec<Related>,
}

/// Another place that has to do with a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Related {
    /// The file, as its [`SourceFile`] is named.
    pub file: String,
    /// The bytes meant.
    pub span: Range<usize>,
    /// What is there.
    pub label: String,
}

impl Diagnostic {
    /// An error at a place.
    pub(crate) fn error(code: &'static str, spot: Spot<'_>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, spot, message.into())
    }

    /// A warning at a place.
    pub(crate) fn warning(code: &'static str, spot: Spot<'_>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, spot, message.into())
    }

    fn new(severity: Severity, code: &'static str, spot: Spot<'_>, message: String) -> Self {
        let (file, span) = (spot.file.to_owned(), spot.start..spot.end);
        Self { severity, code, file, span, message, label: String::new(), hint: None, related: Vec::new() }
    }

    /// The same with words under the marked text.
    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// The same with advice.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with one more place.
    pub(crate) fn related(mut self, spot: Spot<'_>, label: impl Into<String>) -> Self {
        self.related.push(Related { file: spot.file.to_owned(), span: spot.start..spot.end, label: label.into() });
        self
    }
}

/// Shows problems as text, in the order given, each with its line of the file, `file:line:column` and the hint. Plain, without colours.
/// Ends with a line feed unless there is nothing to show. Files that are not in `files` are named without a line.
#[must_use]
pub fn render_text(diagnostics: &[Diagnostic], files: &[SourceFile]) -> String {
    let lines = line_indexes(diagnostics, files);
    let renderer = Renderer::plain().decor_style(DecorStyle::Ascii);
    let parts: Vec<String> = diagnostics.iter().map(|diagnostic| renderer.render(&groups(diagnostic, &lines))).collect();
    let mut text = parts.join("\n\n");
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// Shows problems as a JSON array, in the order given: `severity`, `code`, `file`, `line`, `column`, `message`, `hint` (null without
/// one). Lines and columns count from 1, columns in characters; both are null where the file's text is not in `files`.
#[must_use]
pub fn render_json(diagnostics: &[Diagnostic], files: &[SourceFile]) -> String {
    #[derive(Serialize)]
    struct Shown<'a> {
        severity: &'static str,
        code: &'static str,
        file: &'a str,
        line: Option<usize>,
        column: Option<usize>,
        message: &'a str,
        hint: Option<&'a str>,
    }
    let lines = line_indexes(diagnostics, files);
    let shown: Vec<Shown<'_>> = diagnostics
        .iter()
        .map(|d| {
            let position = lines.get(d.file.as_str()).map(|lines| lines.position(d.span.start));
            Shown {
                severity: d.severity.as_str(),
                code: d.code,
                file: &d.file,
                line: position.map(|(line, _)| line),
                column: position.map(|(_, column)| column),
                message: &d.message,
                hint: d.hint.as_deref(),
            }
        })
        .collect();
    serde_json::to_string_pretty(&shown).expect("texts and numbers can be written as JSON")
}

/// Text from a file, fit to stand in a message: not longer than a line, nothing that a terminal would obey.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut result = String::new();
    for (index, c) in text.chars().enumerate() {
        if index == LONGEST {
            result.push_str("...");
            break;
        }
        push_visible(&mut result, c);
    }
    result
}

/// Text of any length that stays on its line, in a comment and on a terminal, whatever names and values it was made of.
pub(crate) fn one_line(text: &str) -> String {
    let mut result = String::new();
    text.chars().for_each(|c| push_visible(&mut result, c));
    result
}

fn push_visible(text: &mut String, c: char) {
    let is_hidden = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    if c.is_control() || is_hidden {
        text.extend(c.escape_unicode());
    } else {
        text.push(c);
    }
}

fn groups<'a>(diagnostic: &'a Diagnostic, lines: &'a BTreeMap<&str, Lines<'a>>) -> Vec<Group<'a>> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(diagnostic.message.as_str());
    let mut first = place(Group::with_title(title), &diagnostic.file, &diagnostic.span, &diagnostic.label, lines);
    if let Some(hint) = &diagnostic.hint {
        first = first.element(Level::HELP.message(hint.as_str()));
    }
    let mut groups = vec![first];
    for related in &diagnostic.related {
        let title = Level::NOTE.secondary_title(related.label.as_str());
        groups.push(place(Group::with_title(title), &related.file, &related.span, "", lines));
    }
    groups
}

/// Adds the line on which a span begins. Only that line is handed on, so that the cost does not grow with the file.
fn place<'a>(group: Group<'a>, file: &'a str, span: &Range<usize>, label: &'a str, lines: &BTreeMap<&str, Lines<'a>>) -> Group<'a> {
    let Some(lines) = lines.get(file) else { return group.element(Origin::path(file)) };
    let (number, start, text) = lines.line(span.start);
    if text.len() > MAX_LINE_BYTES || lines.secret.contains(&number) {
        let (line, column) = lines.position(span.start);
        return group.element(Origin::path(file).line(line).char_column(column));
    }
    let within = |offset: usize| text.floor_char_boundary(offset.saturating_sub(start).min(text.len()));
    let mut annotation = AnnotationKind::Primary.span(within(span.start)..within(span.end).max(within(span.start)));
    if !label.is_empty() {
        annotation = annotation.label(label);
    }
    group.element(Snippet::source(text).path(file).line_start(number).annotation(annotation))
}

fn line_indexes<'a>(diagnostics: &[Diagnostic], files: &'a [SourceFile]) -> BTreeMap<&'a str, Lines<'a>> {
    let named = |name: &str| diagnostics.iter().any(|d| d.file == name || d.related.iter().any(|r| r.file == name));
    let mut indexes: BTreeMap<&str, Lines<'_>> =
        files.iter().filter(|file| named(&file.name)).map(|file| (file.name.as_str(), Lines::of(&file.text))).collect();
    for problem in diagnostics.iter().filter(|problem| problem.code == LITERAL_SECRET) {
        if let Some(lines) = indexes.get_mut(problem.file.as_str()) {
            let (first, last) = (lines.line(problem.span.start).0, lines.line(problem.span.end).0);
            lines.secret.extend(first..=last);
        }
    }
    indexes
}

/// Where the lines of a text begin.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
    /// Numbers of the lines that must not be shown.
    secret: BTreeSet<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts, secret: BTreeSet::new() }
    }

    /// The line that holds a byte: its number from 1, the byte at which it begins, its text without the line end.
    fn line(&self, offset: usize) -> (usize, usize, &'a str) {
        let number = self.starts.partition_point(|start| *start <= offset).max(1);
        let start = self.starts.get(number - 1).copied().unwrap_or(0);
        let rest = self.text.get(start..).unwrap_or("");
        let line = rest.split('\n').next().unwrap_or("");
        (number, start, line.strip_suffix('\r').unwrap_or(line))
    }

    /// Line and column of a byte, both from 1; the column counts characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let (number, start, line) = self.line(offset);
        let before = line.floor_char_boundary(offset.saturating_sub(start).min(line.len()));
        (number, line.get(..before).unwrap_or("").chars().count() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    fn file() -> Vec<SourceFile> {
        vec![SourceFile { name: "r.yaml".into(), text: "über: größe\r\nnext: x\n".into() }]
    }

    fn problem(start: usize, end: usize) -> Diagnostic {
        let spot = Spot { file: "r.yaml", start, end };
        Diagnostic::error("a-code", spot, "something is wrong").label("here").hint("change it").related(spot, "declared here")
    }

    #[test]
    fn the_text_form_shows_line_column_label_hint_and_related_places() {
        assert_snapshot!(render_text(&[problem(7, 14)], &file()), @r"
        error: something is wrong
         --> r.yaml:1:7
          |
        1 | über: größe
          |       ^^^^^ here
          |
          = help: change it
        note: declared here
         --> r.yaml:1:7
          |
        1 | über: größe
          |       ^^^^^
        ");
    }

    #[test]
    fn the_json_form_counts_columns_in_characters() {
        assert_snapshot!(render_json(&[problem(7, 14)], &file()), @r#"
        [
          {
            "severity": "error",
            "code": "a-code",
            "file": "r.yaml",
            "line": 1,
            "column": 7,
            "message": "something is wrong",
            "hint": "change it"
          }
        ]
        "#);
    }

    #[test]
    fn a_span_beyond_the_file_or_inside_a_character_is_shown_all_the_same() {
        for (start, end) in [(1, 2), (900, 905), (23, 23), (12, 20), (5, 3)] {
            let text = render_text(&[problem(start, end)], &file());
            assert!(text.contains("r.yaml:"), "{text}");
        }
    }

    #[test]
    fn a_file_without_text_is_named() {
        assert_snapshot!(render_text(&[problem(0, 0)], &[]), @r"
        error: something is wrong
        --> r.yaml
         = help: change it
        note: declared here
        --> r.yaml
        ");
    }

    #[test]
    fn of_a_very_long_line_only_the_place_is_named() {
        let files = [SourceFile { name: "r.yaml".into(), text: format!("a\n{}", "ü".repeat(1000)) }];
        assert_snapshot!(render_text(&[problem(6, 8)], &files), @r"
        error: something is wrong
        --> r.yaml:2:3
         = help: change it
        note: declared here
        --> r.yaml:2:3
        ");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(shown("a\u{1b}[31mb"), "a\\u{1b}[31mb");
        assert_eq!(shown(&"x".repeat(100)).len(), 63);
    }
}
