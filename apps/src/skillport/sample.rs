//! What a marketplace begins with that has nothing yet: the skill that knows how to use it, and one to try.

use std::path::Path;

use bytes::Bytes;

use super::local::Local;
use super::source::Changes;

const MARKETPLACE: &str = r#"{
  "name": "sample-marketplace",
  "owner": {"name": "Skillport"},
  "metadata": {"description": "A marketplace to begin with"},
  "plugins": [
    {
      "name": "skillport", "source": "./plugins/skillport", "description": "Finds, installs and edits skills",
      "version": "1.0.0", "author": {"name": "Skillport"}, "category": "tools",
      "tags": ["surface:CALL"], "keywords": ["marketplace"]
    },
    {
      "name": "writing", "source": "./plugins/writing", "description": "Helps to write",
      "version": "1.2.0", "author": {"name": "Skillport"}, "category": "writing",
      "tags": ["surface:CDAI"], "keywords": ["letters", "style"]
    }
  ]
}
"#;

const SKILLPORT_MD: &str = include_str!("sample.md");

const LETTERS_MD: &str = "---
name: plain-letters
description: Writes letters in plain words. Use it when somebody asks for a letter.
---

# Plain letters

1. Ask who the letter is for, and what they should do when they have read it.
2. Say that first.
3. Run `sh scripts/count.sh FILE`: a letter has fewer than 300 words.
";

const FILES: [(&str, &str); 6] = [
    (".claude-plugin/marketplace.json", MARKETPLACE),
    (
        "plugins/skillport/.claude-plugin/plugin.json",
        "{\n  \"name\": \"skillport\",\n  \"version\": \"1.0.0\",\n  \"description\": \"Finds, installs and edits skills\",\n  \"author\": {\"name\": \"Skillport\"}\n}\n",
    ),
    ("plugins/skillport/skills/skillport/SKILL.md", SKILLPORT_MD),
    (
        "plugins/writing/.claude-plugin/plugin.json",
        "{\n  \"name\": \"writing\",\n  \"version\": \"1.2.0\",\n  \"description\": \"Helps to write\",\n  \"author\": {\"name\": \"Skillport\"}\n}\n",
    ),
    ("plugins/writing/skills/plain-letters/SKILL.md", LETTERS_MD),
    ("plugins/writing/skills/plain-letters/scripts/count.sh", "#!/bin/sh\nwc -w < \"$1\"\n"),
];

/// Writes it to a directory that has nothing in it.
pub(super) async fn write(dir: &Path) -> Result<(), String> {
    let local = Local::open(dir)?;
    let tree = local.tree().await.map_err(|wrong| wrong.message)?;
    if !tree.files.is_empty() {
        return Ok(());
    }
    let changes: Changes = FILES.iter().map(|(path, text)| ((*path).to_owned(), Some(Bytes::from_static(text.as_bytes())))).collect();
    local.commit(tree.revision, changes).await.map_err(|wrong| format!("no sample can be written to {}: {}", dir.display(), wrong.message))
}
