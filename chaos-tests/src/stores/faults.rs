//! A plan of faults.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use model::Clock;
use object_store::{Error, ObjectMeta, Result};
use testkit::Random;

use super::failure;
use super::interposed::{Altered, Answer, Policy, Request, Verb};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request never reaches the store.
    ErrorBefore,
    /// The request takes effect; its answer is lost.
    LostResponse,
    /// The store says that the object exists, although nothing was written.
    FalseConflict,
    /// The request takes this long.
    Slow(Duration),
    /// A listing lacks this many of the newest entries.
    MissingNewest(usize),
    /// A listing breaks off after this many entries.
    TornAfter(usize),
    /// A listing is the one of when the plan was made.
    Stale,
    /// A bit of the content is another one.
    BitFlip,
    /// The content ends in the middle.
    Truncated,
}

impl Fault {
    /// Says whether such a request can have this fault.
    fn suits(self, verb: Verb) -> bool {
        match self {
            Self::ErrorBefore | Self::LostResponse | Self::Slow(_) => true,
            Self::FalseConflict => verb == Verb::Put,
            Self::MissingNewest(_) | Self::TornAfter(_) | Self::Stale => verb == Verb::List,
            Self::BitFlip | Self::Truncated => verb == Verb::Get,
        }
    }
}

/// When a fault occurs.
#[derive(Debug, Clone)]
pub struct Rule {
    /// At requests of this verb; of any where there is none.
    pub verb: Option<Verb>,
    /// At paths that begin so.
    pub prefix: String,
    /// From this matching request on, the first being 1.
    pub nth: u64,
    /// At so many matching requests, one after another.
    pub times: u64,
    /// What occurs.
    pub fault: Fault,
}

/// A [`Policy`] that makes requests fail by rules, by chance, or both.
#[derive(Debug)]
pub struct Faults {
    clock: Arc<dyn Clock>,
    plan: Mutex<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    rules: Vec<(Rule, u64)>,
    chance: Option<(Random, u64, Vec<Fault>)>,
    /// When each object was created through this store, in order.
    created: BTreeMap<String, usize>,
    occurred: Vec<(Request, Fault)>,
}

impl Faults {
    /// Creates a plan without faults.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, plan: Mutex::default() }
    }

    /// Adds a rule.
    pub fn add(&self, rule: Rule) {
        self.lock().rules.push((rule, 0));
    }

    /// From now on gives `percent` of 100 requests one of these faults, as a seed chooses.
    pub fn by_chance(&self, seed: u64, percent: u64, faults: &[Fault]) {
        self.lock().chance = Some((Random::new(seed), percent, faults.to_vec()));
    }

    /// Ends all faults.
    pub fn heal(&self) {
        let mut plan = self.lock();
        plan.rules.clear();
        plan.chance = None;
    }

    /// Returns what went wrong so far.
    pub fn occurred(&self) -> Vec<(Request, Fault)> {
        self.lock().occurred.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    fn choose(&mut self, request: &Request) -> Option<Fault> {
        let mut chosen = None;
        for (rule, seen) in &mut self.rules {
            let is_verb = rule.verb.is_none_or(|verb| verb == request.verb);
            if !is_verb
                || !request.path.starts_with(&rule.prefix)
                || !rule.fault.suits(request.verb)
            {
                continue;
            }
            *seen += 1;
            if (rule.nth..rule.nth.saturating_add(rule.times)).contains(seen) {
                chosen = chosen.or(Some(rule.fault));
            }
        }
        if let (None, Some((random, percent, faults))) = (chosen, &mut self.chance)
            && random.chance(*percent)
        {
            let suitable: Vec<_> = faults.iter().filter(|f| f.suits(request.verb)).collect();
            chosen = random.pick(&suitable).map(|fault| **fault);
        }
        if let Some(fault) = chosen {
            self.occurred.push((request.clone(), fault));
        }
        chosen
    }
}

#[async_trait]
impl Policy for Faults {
    type Ticket = Option<Fault>;

    async fn before(&self, request: &Request) -> Result<Self::Ticket> {
        let fault = self.lock().choose(request);
        match fault {
            Some(Fault::ErrorBefore) => return Err(failure("the request did not arrive")),
            Some(Fault::FalseConflict) => {
                let source = "it does not".into();
                return Err(Error::AlreadyExists { path: request.path.clone(), source });
            }
            Some(Fault::Slow(duration)) => self.clock.sleep(duration).await,
            _ => {}
        }
        Ok(fault)
    }

    async fn after(&self, request: &Request, fault: Option<Fault>, answer: Answer) -> Result<()> {
        if request.verb.writes() && answer.is_ok {
            let mut plan = self.lock();
            let order = plan.created.len();
            plan.created.entry(request.path.clone()).or_insert(order);
        }
        match fault {
            Some(Fault::LostResponse) => Err(failure("the response was lost")),
            _ => Ok(()),
        }
    }

    fn alter_content(&self, fault: &Option<Fault>, content: Bytes) -> Bytes {
        let middle = content.len() / 2;
        match fault {
            Some(Fault::Truncated) => content.slice(..middle),
            Some(Fault::BitFlip) => {
                let mut bytes = content.to_vec();
                if let Some(byte) = bytes.get_mut(middle) {
                    *byte ^= 0x10;
                }
                bytes.into()
            }
            _ => content,
        }
    }

    fn alter_list(&self, fault: &Option<Fault>, mut entries: Vec<ObjectMeta>) -> Altered {
        let plan = self.lock();
        let age = |entry: &ObjectMeta| plan.created.get(entry.location.as_ref()).copied();
        match fault {
            Some(Fault::MissingNewest(count)) => {
                let mut ages: Vec<_> = entries.iter().filter_map(age).collect();
                ages.sort_unstable();
                let first_missing = ages.len().checked_sub(*count).map_or(0, |at| at);
                let limit = ages.get(first_missing).copied().unwrap_or(usize::MAX);
                entries.retain(|entry| age(entry).is_none_or(|age| age < limit));
            }
            Some(Fault::TornAfter(count)) => {
                entries.truncate(*count);
                return Altered { entries, is_torn: true };
            }
            Some(Fault::Stale) => entries.retain(|entry| age(entry).is_none()),
            _ => {}
        }
        Altered { entries, is_torn: false }
    }
}
