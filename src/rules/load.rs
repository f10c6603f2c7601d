//! A rules path to the texts of its files. The only part of the rules that touches the disk.
//!
//! A directory stands for its own `*.yaml` and `*.yml`, sorted by name; other files, tests (`*.test.yaml`), hidden ones and directories below it are left alone
//! (a mounted ConfigMap keeps its versions in hidden directories). A file that is named outright is read whatever it is called.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::diagnostic::Diagnostic;
use super::syntax::{MAX_FILE_BYTES, SourceFile, Spot, too_large};

/// Reads the file, or the files of the directory, at a path. No file is read beyond the size that `check` accepts.
///
/// # Errors
/// Every file that cannot be read, is too large or is not UTF-8, as problems; also a directory without rules files.
pub fn load(path: &Path) -> Result<Vec<SourceFile>, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let paths = rules_files(path, &mut problems);
    let files = paths.iter().filter_map(|path| read(path, &mut problems)).collect();
    if problems.is_empty() { Ok(files) } else { Err(problems) }
}

fn rules_files(path: &Path, problems: &mut Vec<Diagnostic>) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let mut paths = match listed(path) {
        Ok(paths) => paths,
        Err(error) => {
            problems.push(unreadable(path, &error));
            return Vec::new();
        }
    };
    if paths.is_empty() {
        let name = path.to_string_lossy();
        let problem = Diagnostic::error("no-rules", top(&name), "the directory has no rules file");
        problems.push(problem.hint("rules files end in `.yaml` or `.yml`; directories below this one are not read"));
    }
    paths.sort();
    paths
}

fn listed(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if is_rules_file(&path) && !path.is_dir() {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn is_rules_file(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    !hidden && !is_tests_file(path) && is_yaml(path)
}

/// Whether a file holds tests of rules: it is named `*.test.yaml` or `*.test.yml`.
#[must_use]
pub fn is_tests_file(path: &Path) -> bool {
    let is_test = |stem: &str| stem.to_ascii_lowercase().ends_with(".test");
    is_yaml(path) && path.file_stem().and_then(|stem| stem.to_str()).is_some_and(is_test)
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("yaml") || extension.eq_ignore_ascii_case("yml"))
}

fn read(path: &Path, problems: &mut Vec<Diagnostic>) -> Option<SourceFile> {
    let name = path.to_string_lossy().into_owned();
    let bytes = match read_bounded(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            problems.push(unreadable(path, &error));
            return None;
        }
    };
    if bytes.len() > MAX_FILE_BYTES {
        problems.push(too_large(top(&name)));
        return None;
    }
    match String::from_utf8(bytes) {
        Ok(text) => Some(SourceFile { name, text }),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let line = 1 + error.as_bytes().iter().take(valid).filter(|byte| **byte == b'\n').count();
            let spot = Spot { file: &name, start: valid, end: valid };
            let problem = Diagnostic::error("not-utf-8", spot, format!("the file is not UTF-8 text (byte {valid}, line {line})"));
            problems.push(problem.hint("save it as UTF-8"));
            None
        }
    }
}

/// A file's bytes, at most one more than allowed: it may be a device, or grow while it is read.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
    File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(path: &Path, error: &io::Error) -> Diagnostic {
    let name = path.to_string_lossy();
    Diagnostic::error("unreadable-file", top(&name), format!("cannot read the rules: {error}"))
        .hint("check the path and the rights of this process")
}

fn top(name: &str) -> Spot<'_> {
    Spot { file: name, start: 0, end: 0 }
}
