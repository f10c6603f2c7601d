//! Texts to files, none of which is ever overwritten.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// What became of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It is a new file.
    New,
    /// It stood there already, to the letter.
    Same,
    /// Something else stands there: it was written beside, with `.new` behind the name.
    Beside,
    /// It was added to what stood there.
    Added,
}

/// A text in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The file.
    pub path: PathBuf,
    /// What became of it.
    pub how: How,
}

/// Puts a text at a path, or beside what stands there.
///
/// # Errors
/// Those of the file.
pub fn place(path: &Path, text: &str) -> std::io::Result<Placed> {
    match std::fs::read_to_string(path) {
        Ok(found) if found == text => return Ok(Placed { path: path.to_owned(), how: How::Same }),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if let Some(directory) = path.parent() {
                std::fs::create_dir_all(directory)?;
            }
            std::fs::File::create_new(path)?.write_all(text.as_bytes())?;
            return Ok(Placed { path: path.to_owned(), how: How::New });
        }
        Err(error) => return Err(error),
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let path = path.with_file_name(name);
    std::fs::write(&path, text)?;
    Ok(Placed { path, how: How::Beside })
}

/// Puts a text at the first of these paths where there is nothing: rules of a directory add up.
///
/// # Errors
/// Those of the file.
pub fn place_anew(directory: &Path, stem: &str, text: &str) -> std::io::Result<Placed> {
    std::fs::create_dir_all(directory)?;
    let names = std::iter::once(format!("{stem}.yaml")).chain((2..).map(|number: u32| format!("{stem}-{number}.yaml")));
    for name in names {
        let path = directory.join(name);
        match std::fs::File::create_new(&path) {
            Ok(mut file) => {
                file.write_all(text.as_bytes())?;
                return Ok(Placed { path, how: How::New });
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// Adds databases to settings that have some in block style, and puts the result in their place; `None` where they are written otherwise.
#[must_use]
pub fn with_databases(settings: &str, databases: &str) -> Option<String> {
    let mut lines: Vec<&str> = settings.lines().collect();
    let is_head = |line: &&str| line.split('#').next().is_some_and(|line| line.trim_end() == "databases:");
    let place = lines.iter().position(is_head)?;
    let next = lines.get(place + 1..)?.iter().find(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))?;
    let indent = next.len() - next.trim_start().len();
    // A tab, or no deeper than the head, is not what is added here.
    let added: Vec<String> = databases.lines().map(|line| format!("{}{}", " ".repeat(indent), line.trim_start())).collect();
    if indent == 0 || next.starts_with('\t') {
        return None;
    }
    lines.splice(place + 1..place + 1, added.iter().map(String::as_str));
    let end = if settings.contains("\r\n") { "\r\n" } else { "\n" };
    Some(lines.join(end) + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.yaml");
        let put = |text: &str| place(&path, text).unwrap().how;
        assert_eq!([put("one"), put("one"), put("two")], [How::New, How::Same, How::Beside]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
        let anew = |text: &str| place_anew(dir.path(), "found", text).unwrap().path;
        assert_eq!([anew("one"), anew("two")], [dir.path().join("found.yaml"), dir.path().join("found-2.yaml")]);
    }

    #[test]
    fn databases_are_added_to_settings_in_block_style_only() {
        let settings = "version: 1\ndatabases:   # all\n    # the crm\n    crm: { url: x }\nbatch: {}\n";
        let added = with_databases(settings, "  shop: { url: y }\n").unwrap();
        assert_eq!(added, "version: 1\ndatabases:   # all\n    shop: { url: y }\n    # the crm\n    crm: { url: x }\nbatch: {}\n");
        let windows = with_databases(&settings.replace('\n', "\r\n"), "  shop: { url: y }\n").unwrap();
        assert_eq!(windows, added.replace('\n', "\r\n"));
        assert_eq!(with_databases("databases: { crm: { url: x } }\n", "  shop: { url: y }\n"), None);
    }
}
