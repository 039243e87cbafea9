//! What hubs said about other clients when they were last asked, for people to look at (§2.2).

use std::collections::VecDeque;

use dske_protocol::{
    identity::HubWord,
    ids::NodeId,
    message::{Identity, Subject},
};

use crate::{
    clock::now_ms,
    status::{HubWordStatus, InquiryStatus},
};

/// Clients about whom the last answers are remembered.
const INQUIRIES_MAX: usize = 64;

/// Applications of a claim that are told by name.
const APPLICATIONS_SHOWN: usize = 3;

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct Answers(VecDeque<Inquiry>);

#[derive(Debug)]
struct Inquiry {
    subject: Subject,
    /// Name of the subject, or its short id.
    name: String,
    at_ms: u64,
    outcome: String,
    /// Each hub's word, with what to call the hub.
    words: Vec<(NodeId, String, HubWord)>,
    accepted: Option<Identity>,
}

impl Answers {
    /// The hubs, each with what to call it, have said who somebody is. Where only those that were silent before were asked, the words of
    /// the others stand.
    pub(super) fn heard(
        &mut self,
        subject: &Subject,
        known: Option<String>,
        words: impl Iterator<Item = (NodeId, String, HubWord)>,
    ) {
        let name = known.unwrap_or_else(|| match subject {
            Subject::Node(node) => node.short(),
            Subject::Name(name) => name.to_string(),
        });
        let at = self.0.iter().position(|inquiry| inquiry.is_about(subject));
        let mut inquiry = at.and_then(|at| self.0.remove(at)).unwrap_or_else(|| Inquiry {
            subject: subject.clone(),
            name: String::new(),
            at_ms: 0,
            outcome: String::new(),
            words: Vec::new(),
            accepted: None,
        });
        for (hub, label, word) in words {
            inquiry.words.retain(|(other, ..)| *other != hub);
            inquiry.words.push((hub, label, word));
        }
        inquiry.words.sort_by(|(_, one, _), (_, other, _)| one.cmp(other));
        (inquiry.name, inquiry.at_ms) = (name, now_ms());
        self.0.truncate(INQUIRIES_MAX - 1);
        self.0.push_front(inquiry);
    }

    /// This is taken to be true.
    pub(super) fn accepted(&mut self, subject: &Subject, identity: &Identity) {
        self.change(subject, |inquiry| {
            inquiry.name = identity.name.to_string();
            inquiry.outcome = format!("{} is {}", identity.name, identity.node.short());
            inquiry.accepted = Some(identity.clone());
        });
    }

    /// Nothing is.
    pub(super) fn undecided(&mut self, subject: &Subject, why: &str) {
        self.change(subject, |inquiry| {
            inquiry.outcome = format!("not established: {why}");
            inquiry.accepted = None;
        });
    }

    /// Nothing was agreed this time; what was before stands.
    pub(super) fn in_vain(&mut self, subject: &Subject, why: &str) {
        self.change(subject, |inquiry| {
            inquiry.outcome = format!("established before; asked once more: {why}")
        });
    }

    fn change(&mut self, subject: &Subject, change: impl FnOnce(&mut Inquiry)) {
        if let Some(inquiry) = self.0.iter_mut().find(|inquiry| inquiry.is_about(subject)) {
            change(inquiry);
        }
    }

    /// Newest first.
    pub(super) fn newest_first(&self) -> Vec<InquiryStatus> {
        self.0.iter().map(Inquiry::status).collect()
    }
}

impl Inquiry {
    fn is_about(&self, subject: &Subject) -> bool {
        // Who was asked about by name is asked about by id later.
        let accepted = self.accepted.as_ref().is_some_and(|accepted| match subject {
            Subject::Node(node) => accepted.node == *node,
            Subject::Name(name) => accepted.name == *name,
        });
        accepted || self.subject == *subject
    }

    fn status(&self) -> InquiryStatus {
        let word = |(_, hub, word): &(NodeId, String, HubWord)| {
            let (says, agrees) = match word {
                HubWord::Silent => ("no answer".to_owned(), None),
                HubWord::Unknown => ("does not know it".to_owned(), None),
                HubWord::Unsigned(claim) => {
                    (format!("{}, which that node has not signed", described(claim)), Some(false))
                }
                HubWord::Claim(claim) => {
                    (described(claim), self.accepted.as_ref().map(|accepted| accepted == claim))
                }
            };
            HubWordStatus { hub: hub.clone(), says, agrees }
        };
        InquiryStatus {
            subject: self.name.clone(),
            at_ms: self.at_ms,
            outcome: self.outcome.clone(),
            words: self.words.iter().map(word).collect(),
        }
    }
}

/// What a hub claims of somebody.
fn described(claim: &Identity) -> String {
    let mut says = format!("{} is {}", claim.name, claim.node.short());
    for application in claim.applications.iter().take(APPLICATIONS_SHOWN) {
        says.push_str(&format!(", for {application}"));
    }
    match claim.applications.len().saturating_sub(APPLICATIONS_SHOWN) {
        0 => {}
        more => says.push_str(&format!(" and {more} more")),
    }
    says
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_stand_beside_what_was_accepted() {
        let node = |id: u8| NodeId::new([id; 32]);
        let identity =
            |id| Identity { node: node(id), name: "bob".parse().unwrap(), applications: Vec::new() };
        let subject = Subject::Name("bob".parse().unwrap());
        let mut answers = Answers::default();
        let words = [
            (node(2), "p2".to_owned(), HubWord::Claim(identity(2))),
            (node(1), "p1".to_owned(), HubWord::Claim(identity(1))),
            (node(3), "p3".to_owned(), HubWord::Silent),
        ];
        answers.heard(&subject, None, words.into_iter());
        answers.accepted(&subject, &identity(1));
        // Asked again: only the silent one.
        answers.heard(&subject, None, [(node(3), "p3".to_owned(), HubWord::Unknown)].into_iter());
        let told = answers.newest_first();
        assert_eq!(told.len(), 1);
        let agrees: Vec<_> = told[0].words.iter().map(|word| (word.hub.as_str(), word.agrees)).collect();
        assert_eq!(agrees, [("p1", Some(true)), ("p2", Some(false)), ("p3", None)]);
        answers.in_vain(&subject, "too few");
        assert_eq!(answers.newest_first()[0].words[0].agrees, Some(true), "what was established stands");
        answers.undecided(&subject, "too few");
        assert!(answers.newest_first()[0].words.iter().all(|word| word.agrees.is_none()));
    }
}
