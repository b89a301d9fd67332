//! `lifeboat diff`: what differs between two states.

use futures::TryStreamExt as _;
use model::Result;
use operations::browse::{self, ChangeKind, Changed};
use operations::select::{Resolved, ResolvedSystem};
use serde_json::{Value, json};

use crate::entries::value;
use crate::exit::Exit;
use crate::names;
use crate::output::List;
use crate::run::Run;
use crate::table::count;

/// Arguments of `diff`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The old state: SITE[/SYSTEM]@WHEN[:PATH]
    old: String,
    /// The new state
    new: String,
}

/// How many items differ in which way.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    added: u64,
    removed: u64,
    changed: u64,
}

impl Args {
    /// Compares.
    ///
    /// # Errors
    /// `NotFound`; those of the repository.
    pub async fn run(&self, run: &Run) -> Result<Exit> {
        let settings = run.settings()?;
        let repository = run.open(&settings).await?;
        let old = run.resolve(&self.old, &repository, &settings).await?;
        let new = run.resolve(&self.new, &repository, &settings).await?;
        let state = |one: &Resolved| json!({ "site": one.site.as_str(), "id": one.id, "time": Run::utc(one.chosen_at) });
        let mut list =
            run.output.list("changes", json!({ "old": state(&old), "new": state(&new) }))?;
        let mut tally = Tally::default();
        let pairs = pairs(&old, &new);
        for (old, new) in &pairs {
            let mut changes = browse::diff(&repository, old, new)?;
            let prefix =
                if pairs.len() > 1 { format!("{}:", new.stream.system) } else { String::new() };
            while let Some(change) = changes.try_next().await? {
                run.context.check("compare")?;
                print(&change, (&prefix, new.stream.system.as_str()), &mut tally, &mut list)?;
            }
        }
        let Tally { added, removed, changed } = tally;
        list.heading(&format!(
            "{} added, {} removed, {} changed",
            count(added),
            count(removed),
            count(changed)
        ))?;
        list.end(&json!({ "added": added, "removed": removed, "changed": changed }))?;
        Ok(Exit::Done)
    }
}

/// Pairs the systems that both states have; the policy only where something else was not asked for.
fn pairs<'r>(
    old: &'r Resolved,
    new: &'r Resolved,
) -> Vec<(&'r ResolvedSystem, &'r ResolvedSystem)> {
    if let ([old], [new]) = (old.systems.as_slice(), new.systems.as_slice()) {
        return vec![(old, new)];
    }
    let own = app::policy_system::name();
    let pair = |new: &'r ResolvedSystem| {
        let same = |old: &&ResolvedSystem| old.stream.system == new.stream.system;
        old.systems.iter().find(same).map(|old| (old, new))
    };
    let wanted = new.systems.iter().filter(|new| new.stream.system != own || !new.path.is_root());
    let mut pairs: Vec<_> = wanted.filter_map(pair).collect();
    let policy = new.systems.iter().filter(|new| new.stream.system == own && new.path.is_root());
    // A changed policy is worth a line; an equal one would only make every line longer.
    pairs.extend(policy.filter_map(pair).filter(|(old, new)| {
        let root = |one: &ResolvedSystem| one.snapshot.root.node.as_ref().map(|(id, _)| *id);
        root(old) != root(new)
    }));
    pairs
}

fn print(
    change: &Changed,
    (prefix, system): (&str, &str),
    tally: &mut Tally,
    list: &mut List,
) -> Result<()> {
    let path = names::path(&change.key);
    let (sign, what) = described(&change.change);
    match change.change {
        ChangeKind::Added => tally.added += 1,
        ChangeKind::Removed => tally.removed += 1,
        ChangeKind::Changed { .. } => tally.changed += 1,
    }
    let line = || {
        let what = if what.is_empty() { String::new() } else { format!("  ({})", what.join(", ")) };
        format!("{sign} {prefix}{path}{what}")
    };
    let entry = |entry: &Option<browse::Entry>| entry.as_ref().map(|entry| value(system, entry));
    let object = || -> Value {
        json!({
            "system": system,
            "path": path,
            "change": match sign { '+' => "added", '-' => "removed", _ => "changed" },
            "differs": what,
            "old": entry(&change.old),
            "new": entry(&change.new),
        })
    };
    list.entry(line, object)
}

fn described(change: &ChangeKind) -> (char, Vec<&'static str>) {
    match change {
        ChangeKind::Added => ('+', Vec::new()),
        ChangeKind::Removed => ('-', Vec::new()),
        ChangeKind::Changed { kind, content, attributes } => {
            let parts = [(*kind, "kind"), (*content, "content"), (*attributes, "attributes")];
            ('M', parts.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_says_what_differs() {
        assert_eq!(described(&ChangeKind::Added), ('+', vec![]));
        let change = ChangeKind::Changed { kind: false, content: true, attributes: true };
        assert_eq!(described(&change), ('M', vec!["content", "attributes"]));
    }
}
