//! What several servers say of themselves together: the instructions of each, in a section of its own.

/// Letters of all instructions together, which end up in a model's context. Each server has its share.
const MOST: usize = 16 * 1024;

/// The instructions of servers of those names, as far as they are known and there are any.
pub fn instructions<'s>(servers: impl IntoIterator<Item = (&'s str, Option<String>)>) -> String {
    let (mut names, mut sections) = (Vec::new(), Vec::new());
    for (name, said) in servers {
        names.push(name);
        sections.extend(said.filter(|said| !said.trim().is_empty()).map(|said| (name, said)));
    }
    let mut out = format!(
        "Several servers: {}. The name of each tool and prompt begins with that of its server and two underscores.",
        names.join(", ")
    );
    let share = MOST / sections.len().max(1);
    for (name, said) in sections {
        let said = said.trim();
        let cut = (0..=share.min(said.len())).rev().find(|at| said.is_char_boundary(*at)).unwrap_or(0);
        let more = if cut < said.len() { "…" } else { "" };
        out.push_str(&format!("\n\n# {name}\n\n{}{more}", &said[..cut]));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_has_a_section_in_their_order() {
        let said =
            instructions([("b", Some(" Do.\n".into())), ("c", None), ("d", Some("  ".into())), ("a", Some("Don't.\n\nOr do.".into()))]);
        let (head, sections) = said.split_once("\n\n").unwrap();
        assert!(head.starts_with("Several servers: b, c, d, a. "));
        assert_eq!(sections, "# b\n\nDo.\n\n# a\n\nDon't.\n\nOr do.");
        assert!(!instructions([("a", None)]).contains('#'));
    }

    #[test]
    fn what_one_says_leaves_room_for_the_others() {
        let said = instructions([("a", Some("ü".repeat(MOST))), ("b", Some("short".into()))]);
        assert!(said.len() < MOST / 2 + 200 && said.contains("ü…\n\n# b\n\nshort"), "{}", said.len());
        assert!(instructions((0..1_000).map(|_| ("a", Some("é".repeat(100))))).len() < 2 * MOST);
    }
}
