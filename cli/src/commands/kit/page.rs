//! A page of plain sections, once as text and once as HTML that needs nothing else to be shown or printed.

use std::fmt::Write as _;

use crate::table::lay_out;

const WIDTH: usize = 78;
const STYLE: &str = "body{font:11pt/1.4 serif;max-width:44em;margin:2em auto;padding:0 1em}\
    h1{font-size:1.5em}h2{font-size:1.15em;margin-top:1.5em}\
    pre,td{font-family:monospace;font-size:10pt}pre{border:1px solid;padding:.5em;white-space:pre-wrap;\
    overflow-wrap:anywhere}table{border-collapse:collapse;margin:1em 0 .5em}\
    td{border:1px solid #999;padding:.15em .5em;vertical-align:top;overflow-wrap:anywhere}\
    @media print{h2,pre,table{break-inside:avoid}}";

/// A page.
pub struct Page {
    /// What stands above all.
    pub title: String,
    /// What stands below it.
    pub sections: Vec<Section>,
}

/// A part of a page.
pub struct Section {
    title: &'static str,
    blocks: Vec<Block>,
}

/// What a section is made of.
pub enum Block {
    /// A paragraph.
    Text(String),
    /// Lines to be typed.
    Commands(Vec<String>),
    /// Rows of cells.
    Table(Vec<Vec<String>>),
}

impl Section {
    /// Puts a section together.
    pub fn new(title: &'static str, blocks: Vec<Block>) -> Self {
        Self { title, blocks }
    }
}

impl Page {
    /// Writes the page as text.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n{}\n", self.title, "=".repeat(self.title.chars().count()));
        for section in &self.sections {
            let line = "-".repeat(section.title.chars().count());
            let _ = write!(text, "\n{}\n{line}\n", section.title);
            for block in &section.blocks {
                text.push('\n');
                match block {
                    Block::Text(words) => wrap(&mut text, words),
                    Block::Commands(lines) => lines.iter().for_each(|line| {
                        let _ = writeln!(text, "    {line}");
                    }),
                    Block::Table(rows) => text.push_str(&lay_out(rows, &[])),
                }
            }
        }
        text
    }

    /// Writes the page as HTML.
    pub fn html(&self) -> String {
        let title = escape(&self.title);
        let mut html = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n\
             <style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
        );
        for section in &self.sections {
            let _ = writeln!(html, "<h2>{}</h2>", escape(section.title));
            for block in &section.blocks {
                match block {
                    Block::Text(words) => {
                        let _ = writeln!(html, "<p>{}</p>", escape(words));
                    }
                    Block::Commands(lines) => {
                        let _ = writeln!(html, "<pre>{}</pre>", escape(&lines.join("\n")));
                    }
                    Block::Table(rows) => {
                        html.push_str("<table>\n");
                        for row in rows {
                            let cells = row.iter().map(|cell| format!("<td>{}</td>", escape(cell)));
                            let _ = writeln!(html, "<tr>{}</tr>", cells.collect::<String>());
                        }
                        html.push_str("</table>\n");
                    }
                }
            }
        }
        html.push_str("</body></html>\n");
        html
    }
}

fn wrap(text: &mut String, words: &str) {
    let mut column = 0;
    for word in words.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > WIDTH {
            text.push('\n');
            column = 0;
        } else if column > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text.push('\n');
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same_and_nothing_becomes_markup() {
        let blocks = vec![
            Block::Text("word ".repeat(30)),
            Block::Commands(vec!["a && b <c>".to_owned()]),
            Block::Table(vec![vec!["key".to_owned(), "<script>".to_owned()]]),
        ];
        let page =
            Page { title: "A \"b\"".to_owned(), sections: vec![Section::new("One", blocks)] };
        let text = page.text();
        assert!(text.starts_with("A \"b\"\n=====\n\nOne\n---\n\nword word"), "{text}");
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert!(text.contains("    a && b <c>\n") && text.contains("key  <script>"), "{text}");
        let html = page.html();
        assert!(html.contains("<pre>a &amp;&amp; b &lt;c&gt;</pre>"), "{html}");
        assert!(html.contains("<td>key</td><td>&lt;script&gt;</td>"), "{html}");
        assert!(html.contains("<title>A &quot;b&quot;</title>"), "{html}");
    }
}
