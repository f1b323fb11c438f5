//! What strangers write, made harmless to look at: one line, no control characters, nothing that turns the direction
//! of what stands beside it, and an end.
//!
//! It is text still, and escaped where it is put into a page. Odd: letters of other scripts stay as they are, because
//! names are written in them, so a name can look like another; that is why pages say who checked it.

/// Longest name on a page, in characters.
pub(super) const MAX_NAME: usize = 80;
/// Most marks that may stand above or below one letter.
const MAX_MARKS: usize = 2;

/// `text` within `max` characters, the last of which is an ellipsis if there was more.
pub(super) fn plain(text: &str, max: usize) -> String {
    let mut shown = String::new();
    let (mut n_shown, mut n_marks, mut gap) = (0, 0, false);
    for c in text.chars() {
        if c.is_whitespace() || c.is_control() {
            gap = !shown.is_empty();
            continue;
        }
        if is_unseen(c) {
            continue;
        }
        n_marks = if is_mark(c) { n_marks + 1 } else { 0 };
        if n_marks > MAX_MARKS {
            continue;
        }
        if n_shown + usize::from(gap) >= max {
            if n_shown == max {
                shown.pop();
            }
            return format!("{}…", shown.trim_end());
        }
        if gap {
            shown.push(' ');
            n_shown += 1;
        }
        gap = false;
        shown.push(c);
        n_shown += 1;
    }
    shown
}

/// What has no looks of its own, or changes those of others: directions (Unicode TR9), joiners, fillers, tags,
/// variation selectors, private use.
fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{e000}'..='\u{f8ff}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{10ffff}')
}

/// Marks that combine with the letter before them, where they can be piled up.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_one_harmless_line() {
        for (written, shown) in [
            ("Claude", "Claude"),
            ("  Claude \n\t Code ", "Claude Code"),
            ("Größe 日本語 עברית", "Größe 日本語 עברית"),
            ("a\u{202e}b\u{2066}c\u{200f}d", "abcd"),
            ("a\0b\u{1b}[31mc\u{85}d", "a b [31mc d"),
            ("a\u{200b}b\u{feff}\u{e0041}", "ab"),
            ("a\u{2028}b\u{2029}c", "a b c"),
            ("e\u{301}\u{301}\u{301}\u{301}x\u{301}", "e\u{301}\u{301}x\u{301}"),
            ("<b>&\"'", "<b>&\"'"),
            ("", ""),
            ("\u{202e}", ""),
        ] {
            assert_eq!(plain(written, MAX_NAME), shown, "{written:?}");
        }
    }

    #[test]
    fn there_is_an_end() {
        assert_eq!(plain(&"ä".repeat(80), 80), "ä".repeat(80));
        assert_eq!(plain(&"ä".repeat(81), 80), format!("{}…", "ä".repeat(79)));
        assert_eq!(plain(&"a ".repeat(81), 80).chars().count(), 80);
        assert_eq!(plain(&format!("{} ", "a".repeat(80)), 80), "a".repeat(80));
        assert_eq!(plain("ab cd", 4), "ab…");
    }
}
