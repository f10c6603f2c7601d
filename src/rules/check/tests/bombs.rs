//! Files made to hurt: a clear answer, quickly, and never a panic.

use super::*;
use std::time::Instant;

/// Longest time that a refusal may take, several times that in an unoptimised build beside other work.
const LIMIT: Duration = Duration::from_millis(if cfg!(debug_assertions) { 1000 } else { 100 });

fn refused(text: &str) -> String {
    let files = files(&[text]);
    let start = Instant::now();
    let checked = check(&files);
    let shown = render_text(&checked.diagnostics, &files);
    let took = start.elapsed();
    assert!(took < LIMIT, "{took:?} for {} bytes", text.len());
    assert_eq!(checked.rules, None);
    assert!(shown.len() < 1 << 20);
    let mut codes: Vec<&str> = checked.diagnostics.iter().map(|d| d.code).collect();
    codes.dedup();
    codes.join(" ")
}

#[test]
fn an_empty_file_and_one_of_comments_are_refused() {
    for text in ["", "\n\n", "# nothing\n# at all\n", "---\n", "\u{feff}", "null\n", "~"] {
        assert_eq!(refused(text), "empty-file", "{text:?}");
    }
    for text in ["a", "7", "[]", "- a\n- b\n", "true"] {
        assert_eq!(refused(text), "wrong-kind", "{text:?}");
    }
    assert_eq!(refused("{}"), "empty-mapping");
}

#[test]
fn h101_a_file_of_ten_megabytes_is_not_parsed() {
    assert_eq!(refused(&"# much ado\n".repeat(1_000_000)), "file-too-large");
}

#[test]
fn h101_deep_nesting_is_refused() {
    for text in ["[".repeat(10_000), "[".repeat(400_000), "{a: ".repeat(10_000), "- ".repeat(10_000), "? ".repeat(10_000)] {
        assert_eq!(refused(&text), "too-much-nesting");
    }
    let blocks: String = (0..500).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    assert_eq!(refused(&blocks), "too-much-nesting");
    let closed = format!("version: 1\nmode: {}{}\n", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(refused(&closed), "too-much-nesting");
}

#[test]
fn h101_an_alias_bomb_is_refused() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 9].join(",");
        bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    assert_eq!(refused(&bomb), "too-much-nesting");
    assert_eq!(refused("a: &a [*a]\n"), "yaml-syntax");
    let mut merges = String::from("m0: &m0 { a: 1, b: 2 }\n");
    for level in 1..30 {
        merges.push_str(&format!("m{level}: &m{level} {{ <<: [*m{0}, *m{0}, *m{0}] }}\n", level - 1));
    }
    assert_eq!(refused(&merges), "too-much-nesting");
    let wide = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), vec!["*a"; 999].join(","));
    assert_eq!(refused(&wide), "too-much-nesting");
}

#[test]
fn binary_garbage_is_refused() {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(u8::try_from(state >> 24).unwrap())
    };
    let garbage: String = (0..100_000).map(|_| next()).collect();
    assert_eq!(refused(&garbage), "yaml-syntax");
    assert_eq!(refused("\0\u{1}\u{2}abc"), "yaml-syntax");
    assert_eq!(refused(&"x".repeat(1 << 20)), "wrong-kind");
}

#[test]
fn a_file_full_of_mistakes_is_answered_in_bounded_length() {
    let lines = format!("version: 1\nmode: enforce\nentities:\n{}", "  - { nam: x }\n".repeat(2_000));
    let one_line = format!("{{ version: 1, mode: enforce, entities: [{}] }}", "{ nam: x }, ".repeat(2_000));
    for text in [lines, one_line] {
        let checked = check(&files(&[&text]));
        assert_eq!((checked.rules, checked.diagnostics.len()), (None, MAX_PROBLEMS + 1));
        assert_eq!(checked.diagnostics.last().unwrap().code, "more-problems");
    }
}

#[test]
fn load_reports_what_it_cannot_read() {
    let folder = std::env::temp_dir().join(format!("entail-load-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("below.yaml")).unwrap();
    let codes = || load(&folder).map_or_else(|problems| problems.iter().map(|d| d.code).collect(), |files| vec!["ok"; files.len()]);
    assert_eq!(codes(), ["no-rules"]);
    for (name, bytes) in [("b.yml", &b"version: 1\n"[..]), ("a.yaml", b"version: 1\n"), (".hidden.yaml", b"\xff"), ("readme.md", b"\xff")] {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    let names: Vec<String> = load(&folder).unwrap().into_iter().map(|file| file.name.rsplit('/').next().unwrap().to_owned()).collect();
    assert_eq!(names, ["a.yaml", "b.yml"]);
    std::fs::write(folder.join("c.yaml"), b"version: 1\nmode: \xff\xfe\n").unwrap();
    std::fs::write(folder.join("d.yaml"), vec![b'#'; 2 << 20]).unwrap();
    assert_eq!(codes(), ["not-utf-8", "file-too-large"]);
    let gone = load(&folder.join("gone.yaml")).unwrap_err();
    assert_eq!(gone[0].code, "unreadable-file");
    assert!(render_text(&gone, &[]).contains("gone.yaml"));
    std::fs::remove_dir_all(&folder).unwrap();
}
