//! "Did you mean": the known word nearest to one that is not known.

/// Longest word, in characters, for which a suggestion is looked for: bounds the work on a file of rubbish.
const MAX_CHARS: usize = 64;

/// The candidate with the fewest edits from `word`, if these are few for its length. Case, `-` and blanks for `_` count as no edit.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = plain(word);
    let length = word.chars().count();
    if length > MAX_CHARS {
        return None;
    }
    let allowed = (length / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (candidate, plain(candidate)))
        .filter(|(_, plain)| plain.chars().count().abs_diff(length) <= allowed)
        .map(|(candidate, plain)| (strsim::osa_distance(&word, &plain), candidate))
        .filter(|(edits, _)| *edits <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// "did you mean" with the nearest candidate, or else all of them.
pub(crate) fn did_you_mean(word: &str, candidates: &[&str]) -> String {
    match nearest(word, candidates.iter().copied()) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None => format!("known here: {}", candidates.iter().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(", ")),
    }
}

fn plain(word: &str) -> String {
    word.chars().flat_map(char::to_lowercase).map(|c| if c == '-' || c == ' ' { '_' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_a_far_one_is_not_offered() {
        let words = ["on_delete", "on_update", "columns", "cascade"];
        assert_eq!(nearest("on_delet", words), Some("on_delete"));
        assert_eq!(nearest("On-Delete", words), Some("on_delete"));
        assert_eq!(nearest("cascaed", words), Some("cascade"));
        assert_eq!(nearest("nmae", ["id", "name"]), Some("name"));
        assert_eq!(nearest("topic", words), None);
        assert_eq!(nearest("", words), None);
    }
}
