//! What the page shows of a model card: a section of a Markdown file as plain paragraphs.

/// Where a model card is, and what it says about the model's limits.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelCard {
    /// The address of the file.
    pub address: String,
    /// The paragraphs and list items of its section about limits.
    pub limits: Vec<String>,
}

/// The paragraphs and list items of the section with this title, each on one line, without the marks of lists. Ends at the next heading.
pub fn section(markdown: &str, title: &str) -> Vec<String> {
    let heading = |line: &str| line.starts_with('#').then(|| line.trim_start_matches('#').trim().to_owned());
    let lines = markdown.lines().skip_while(|line| heading(line).as_deref() != Some(title)).skip(1);
    let mut paragraphs = Vec::new();
    let mut is_new = true;
    for line in lines.take_while(|line| heading(line).is_none()) {
        let item = line.strip_prefix("- ");
        let text = item.unwrap_or(line).trim();
        match paragraphs.last_mut() {
            _ if text.is_empty() => {}
            Some(paragraph) if !is_new && item.is_none() => *paragraph = format!("{paragraph} {text}"),
            _ => paragraphs.push(text.to_owned()),
        }
        is_new = text.is_empty();
    }
    paragraphs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_read_as_paragraphs_and_items() {
        let card = "# M\n\nIntro.\n\n## Limitations\n\n- No counting:\n  none at all.\n- No people.\n\nThe model\nrepeats.\n\n## Next\nMore.\n";
        assert_eq!(
            section(card, "Limitations"),
            ["No counting: none at all.", "No people.", "The model repeats."]
        );
        assert_eq!(section(card, "Next"), ["More."]);
        assert_eq!(section(card, "Missing"), Vec::<String>::new());
    }
}
