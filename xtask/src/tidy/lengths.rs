//! Lengths of files and functions, held as ratchets: what is too long today is written down in
//! `xtask/tidy-ratchet.txt` and may only become shorter.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use syn::visit::{self, Visit};

/// The most lines that a file may have, not counting its test modules.
const FILE_LINES_MAX: usize = 500;
/// The most lines that a function may have, from its `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// The length of one thing: `file PATH` or `fn PATH::NAME`.
pub struct Length {
    what: String,
    lines: usize,
    lines_max: usize,
}

/// Measures a file and its functions, without what is compiled for tests alone.
pub fn measure(path: &str, text: &str, syntax: &syn::File) -> Vec<Length> {
    let mut walk = Walk { path, functions: Vec::new(), test_lines: 0 };
    walk.visit_file(syntax);
    let file = Length {
        what: format!("file {path}"),
        lines: text.lines().count().saturating_sub(walk.test_lines),
        lines_max: FILE_LINES_MAX,
    };
    let mut lengths = walk.functions;
    lengths.push(file);
    lengths
}

/// Reads the list of what was too long when it was written down.
pub fn parse_ratchet(text: &str) -> Result<BTreeMap<String, usize>> {
    let mut allowed = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (what, lines) =
            line.rsplit_once(' ').context("tidy-ratchet.txt: a line without length")?;
        let lines = lines.parse().with_context(|| format!("tidy-ratchet.txt: {line}"))?;
        if allowed.insert(what.to_owned(), lines).is_some() {
            bail!("tidy-ratchet.txt: {what} is listed twice");
        }
    }
    Ok(allowed)
}

/// What is too long and not listed, what has grown, and entries that must be lowered or removed.
pub fn problems(lengths: &[Length], ratchet: &BTreeMap<String, usize>) -> Vec<String> {
    let mut open = ratchet.clone();
    let mut problems = Vec::new();
    for Length { what, lines, lines_max } in lengths.iter().filter(|one| one.lines > one.lines_max)
    {
        match open.remove(what) {
            None => problems.push(format!("{what}: {lines} lines, at most {lines_max}")),
            Some(listed) if *lines > listed => {
                problems.push(format!("{what}: grew from {listed} to {lines} lines"));
            }
            Some(listed) if *lines < listed => {
                problems.push(format!(
                    "{what}: shrank, lower its entry in tidy-ratchet.txt to {lines}"
                ));
            }
            Some(_) => {}
        }
    }
    let done = open.keys().map(|what| format!("{what}: remove its entry from tidy-ratchet.txt"));
    problems.extend(done);
    problems
}

struct Walk<'a> {
    path: &'a str,
    functions: Vec<Length>,
    test_lines: usize,
}

impl Walk<'_> {
    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.fn_token.span.start().line;
        let last = block.brace_token.span.close().end().line;
        self.functions.push(Length {
            what: format!("fn {}::{}", self.path, signature.ident),
            lines: (last + 1).saturating_sub(first),
            lines_max: FUNCTION_LINES_MAX,
        });
    }
}

impl<'ast> Visit<'ast> for Walk<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if is_for_tests(&item.attrs) {
            let first = item.mod_token.span.start().line;
            let last =
                item.content.as_ref().map_or(first, |(braces, _)| braces.span.close().end().line);
            // The line of the attribute goes with what it marks.
            self.test_lines += last + 2 - first;
        } else {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_for_tests(&item.attrs) {
            self.function(&item.sig, &item.block);
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

/// True for `#[cfg(test)]`.
pub fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str, lines: usize) -> String {
        format!("fn {name}() {{\n{}}}\n", "    work();\n".repeat(lines - 2))
    }

    fn check(text: &str, ratchet: &str) -> Vec<String> {
        let lengths = measure("a.rs", text, &syn::parse_file(text).unwrap());
        problems(&lengths, &parse_ratchet(ratchet).unwrap())
    }

    #[test]
    fn functions_are_measured_wherever_they_are() {
        assert_eq!(check(&function("f", 70), ""), Vec::<String>::new());
        let long = function("f", 71);
        let expected = ["fn a.rs::f: 71 lines, at most 70"];
        assert_eq!(check(&long, ""), expected);
        assert_eq!(check(&format!("impl A {{\n{long}}}\n"), ""), expected);
        assert_eq!(check(&format!("trait A {{\n{long}}}\n"), ""), expected);
        assert_eq!(check(&format!("mod m {{\n{long}}}\n"), ""), expected);
        assert_eq!(check(&format!("fn g() {{\n{long}}}\n"), "fn a.rs::g 73"), expected);
    }

    #[test]
    fn tests_are_not_measured() {
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function("t", 600));
        assert_eq!(check(&tests, ""), Vec::<String>::new());
    }

    #[test]
    fn files_are_measured_without_their_tests() {
        let code = "const A: u8 = 0;\n".repeat(501);
        assert_eq!(check(&code, ""), ["file a.rs: 501 lines, at most 500"]);
        let tests = "#[cfg(test)]\nmod tests {\n}\n";
        let code = "const A: u8 = 0;\n".repeat(500);
        assert_eq!(check(&format!("{code}{tests}"), ""), Vec::<String>::new());
    }

    #[test]
    fn the_ratchet_turns_one_way() {
        let long = function("f", 80);
        assert_eq!(check(&long, "fn a.rs::f 80"), Vec::<String>::new());
        assert_eq!(check(&long, "fn a.rs::f 79"), ["fn a.rs::f: grew from 79 to 80 lines"]);
        let lower = "fn a.rs::f: shrank, lower its entry in tidy-ratchet.txt to 80";
        assert_eq!(check(&long, "fn a.rs::f 81"), [lower]);
        let remove = "fn a.rs::g: remove its entry from tidy-ratchet.txt";
        assert_eq!(check("fn g() {}\n", "fn a.rs::g 81"), [remove]);
    }
}
