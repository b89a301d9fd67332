//! Versions of tool chains, as programs print them.

/// Numbers with dots between them; what is missing counts as zero.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(Vec<u32>);

impl Version {
    /// Finds the first version in what a program printed: `go version go1.26.8 linux/amd64`.
    pub fn find(text: &str) -> Option<Self> {
        // Colours of a terminal hold digits too.
        let text = text.split('\u{1b}').map(|part| match part.split_once('m') {
            Some((code, rest)) if code.starts_with('[') => rest,
            _ => part,
        });
        let text: String = text.collect();
        let start = text.find(|c: char| c.is_ascii_digit())?;
        let rest = text.get(start..)?;
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let mut numbers = Vec::new();
        for part in rest.get(..end)?.split('.').filter(|part| !part.is_empty()).take(4) {
            numbers.push(part.parse().ok()?);
        }
        while numbers.last() == Some(&0) {
            numbers.pop();
        }
        Some(Self(numbers))
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers: Vec<_> = self.0.iter().map(u32::to_string).collect();
        f.write_str(&numbers.join("."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_and_compared() {
        for (printed, shown) in [
            ("go version go1.26.8 linux/amd64", "1.26.8"),
            ("v20.20.2\n", "20.20.2"),
            ("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK", "17.0.15"),
            ("\u{1b}[1mApache Maven 3.8.7\u{1b}[m", "3.8.7"),
            ("Python 3.11.7", "3.11.7"),
            ("cargo 1.95.0 (abc 2026-01-01)", "1.95"),
            ("1.2.3.", "1.2.3"),
        ] {
            assert_eq!(Version::find(printed).expect(printed).to_string(), shown);
        }
        assert_eq!(Version::find("none"), None);
        assert_eq!(Version::find("99999999999999"), None);
        let version = |text| Version::find(text).expect("version");
        assert!(version("1.25") < version("1.25.1"));
        assert!(version("1.9") < version("1.10"));
        assert!(version("18.0.0") >= version("18"));
    }
}
