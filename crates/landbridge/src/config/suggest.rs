//! What somebody may have meant who wrote something else.

/// "; did you mean `x`?", if one of those that are known is close enough to be meant.
pub(crate) fn did_you_mean<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    match closest(written, known) {
        Some(close) => format!("; did you mean `{close}`?"),
        None => String::new(),
    }
}

fn closest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // Nobody means a case or a hyphen.
    let plain = |word: &str| word.to_lowercase().replace('-', "_");
    let written = plain(written);
    let far = (written.chars().count() / 3).max(1);
    let near = known.into_iter().map(|known| (distance(&written, &plain(known)), known));
    near.filter(|(distance, _)| *distance <= far).min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// How many letters have to be put in, left out, changed, or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // Two lines back are kept, for the swaps.
    let mut before = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut line = vec![i + 1];
        for j in 0..b.len() {
            let change = last[j] + usize::from(a[i] != b[j]);
            let mut least = change.min(last[j + 1] + 1).min(line[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                let before: &Vec<usize> = &before;
                least = least.min(before[j - 1] + 1);
            }
            line.push(least);
        }
        before = std::mem::replace(&mut last, line);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_counted() {
        for (a, b, n) in [("", "", 0), ("a", "", 1), ("lisen", "listen", 1), ("lsiten", "listen", 1), ("kitten", "sitting", 3)] {
            assert_eq!((distance(a, b), distance(b, a)), (n, n), "{a} {b}");
        }
    }

    #[test]
    fn only_what_is_close_is_suggested() {
        let known = ["listen", "servers", "limits", "url"];
        assert_eq!(did_you_mean("lisen", known), "; did you mean `listen`?");
        assert_eq!(did_you_mean("Server", known), "; did you mean `servers`?");
        assert_eq!(did_you_mean("public-urls", ["public_url"]), "; did you mean `public_url`?");
        assert_eq!(did_you_mean("colour", known), "");
        assert_eq!(did_you_mean("", known), "");
    }
}
