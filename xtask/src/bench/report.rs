//! The result of a bench: cases with their peers, the verdict on each, as a table or as one object.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Serialize;

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Time, bytes, memory, round trips.
    Lower,
}

/// What an issue asks of a case: its name and target are not this program's to change.
pub struct Target {
    /// Name of the case.
    pub name: &'static str,
    /// Unit of its values.
    pub unit: &'static str,
    /// `ratio >= N` or `value <= N`.
    pub target: &'static str,
}

/// One measured case with its verdict.
#[derive(Debug, Serialize)]
pub struct Case {
    name: &'static str,
    unit: &'static str,
    better: Better,
    value: Option<f64>,
    peers: BTreeMap<String, Option<f64>>,
    ratio: Option<f64>,
    target: &'static str,
    holds: bool,
}

/// A whole run.
#[derive(Debug, Serialize)]
pub struct Report {
    pub bench: &'static str,
    pub commit: String,
    pub machine: String,
    /// Digest of the data that was measured.
    pub data: String,
    pub cases: Vec<Case>,
    /// What is shown and not judged.
    pub shown: BTreeMap<String, String>,
}

impl Case {
    /// Judges a case. Without our value, or where the target is a ratio without every peer, it does
    /// not hold.
    pub fn judge(
        target: &Target,
        value: Option<f64>,
        peers: BTreeMap<String, Option<f64>>,
    ) -> Result<Self> {
        let all_ran = !peers.is_empty() && peers.values().all(Option::is_some);
        let best_peer = peers.values().flatten().copied().reduce(f64::min);
        let ratio = match (value, best_peer) {
            (Some(value), Some(best)) if value > 0.0 => Some(best / value),
            _ => None,
        };
        let holds = match parse(target.target)? {
            (Quantity::Ratio, at_least) => all_ran && ratio.is_some_and(|ratio| ratio >= at_least),
            (Quantity::Value, at_most) => value.is_some_and(|value| value <= at_most),
        };
        let Target { name, unit, target } = target;
        Ok(Self { name, unit, better: Better::Lower, value, peers, ratio, target, holds })
    }
}

impl Report {
    /// True if every case holds and every expected one is there.
    pub fn holds(&self, expected: &[Target]) -> bool {
        let present = |target: &Target| self.cases.iter().any(|case| case.name == target.name);
        expected.iter().all(present) && self.cases.iter().all(|case| case.holds)
    }

    /// One object.
    pub fn json(&self) -> Result<String> {
        serde_json::to_string(self).context("write the report")
    }

    /// The lines of a table for people.
    pub fn table(&self) -> Vec<String> {
        let mut lines = vec![
            format!("bench {} at {} on {}", self.bench, self.commit, self.machine),
            format!("data {}", self.data),
            format!(
                "{:<15}{:>10} {:<8}{:>8}  {:<17}verdict",
                "case", "ours", "unit", "ratio", "target"
            ),
        ];
        for case in &self.cases {
            let verdict = if case.holds { "holds" } else { "DOES NOT HOLD" };
            let (value, ratio) = (number(case.value), number(case.ratio));
            lines.push(format!(
                "{:<15}{value:>10} {:<8}{ratio:>8}  {:<17}{verdict}",
                case.name, case.unit, case.target
            ));
            lines.extend(
                case.peers
                    .iter()
                    .map(|(name, value)| format!("  {name:<13}{:>10}", number(*value))),
            );
        }
        lines.extend(self.shown.iter().map(|(name, text)| format!("{name}: {text}")));
        lines
    }
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
}

enum Quantity {
    Ratio,
    Value,
}

fn parse(target: &str) -> Result<(Quantity, f64)> {
    let (quantity, bound) = match target.split_once(' ') {
        Some(("ratio", rest)) => (Quantity::Ratio, rest.strip_prefix(">= ")),
        Some(("value", rest)) => (Quantity::Value, rest.strip_prefix("<= ")),
        _ => bail!("no target: {target}"),
    };
    let bound = bound.with_context(|| format!("no target: {target}"))?;
    Ok((quantity, bound.parse().with_context(|| format!("no target: {target}"))?))
}

/// The middle one; of an even number the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *values.get(values.len() / 2 - 1)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATIO: Target = Target { name: "backup", unit: "s", target: "ratio >= 3" };
    const VALUE: Target = Target { name: "rss", unit: "MB", target: "value <= 30" };

    fn peers(values: &[Option<f64>]) -> BTreeMap<String, Option<f64>> {
        values.iter().enumerate().map(|(n, value)| (format!("peer {n}"), *value)).collect()
    }

    #[test]
    fn a_ratio_is_against_the_best_peer() {
        let case = Case::judge(&RATIO, Some(2.0), peers(&[Some(9.0), Some(6.0)])).unwrap();
        assert_eq!((case.ratio, case.holds), (Some(3.0), true));
        let case = Case::judge(&RATIO, Some(2.0), peers(&[Some(9.0), Some(5.9)])).unwrap();
        assert!(!case.holds);
    }

    #[test]
    fn what_was_not_measured_does_not_hold() {
        let case = Case::judge(&RATIO, Some(1.0), peers(&[Some(9.0), None])).unwrap();
        assert_eq!((case.ratio, case.holds), (Some(9.0), false));
        assert!(!Case::judge(&RATIO, Some(1.0), peers(&[])).unwrap().holds);
        assert!(!Case::judge(&RATIO, None, peers(&[Some(9.0)])).unwrap().holds);
        assert!(!Case::judge(&VALUE, None, peers(&[])).unwrap().holds);
    }

    #[test]
    fn a_value_needs_no_peer() {
        assert!(Case::judge(&VALUE, Some(30.0), peers(&[])).unwrap().holds);
        assert!(!Case::judge(&VALUE, Some(30.1), peers(&[])).unwrap().holds);
    }

    #[test]
    fn a_report_without_an_expected_case_does_not_hold() {
        let report = |cases| Report {
            bench: "repository",
            commit: String::new(),
            machine: String::new(),
            data: String::new(),
            cases,
            shown: BTreeMap::new(),
        };
        let rss = || Case::judge(&VALUE, Some(3.0), peers(&[])).unwrap();
        assert!(report(vec![rss()]).holds(&[VALUE]));
        assert!(!report(vec![rss()]).holds(&[VALUE, RATIO]));
        let json: serde_json::Value =
            serde_json::from_str(&report(vec![rss()]).json().unwrap()).unwrap();
        let expected = serde_json::json!({"name": "rss", "unit": "MB", "better": "lower", "value": 3.0,
            "peers": {}, "ratio": null, "target": "value <= 30", "holds": true});
        assert_eq!(json["cases"][0], expected);
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
