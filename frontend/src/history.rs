//! The images that this browser keeps: finished generations, the newest first. Tokens are kept, not pixels: those are decoded when
//! they are shown.

use std::cmp::Reverse;
use std::sync::Arc;

use dalle_shared::ImageToken;
use leptos::prelude::*;

use crate::archive;
use crate::link::Link;
use crate::packing::unpack;
use crate::saved::Saved;
use crate::session::Session;
use crate::shown::Shown;

/// Most generations that are kept. Favourites are kept beyond it.
pub const MOST: usize = 300;

/// A list with `saved` in its place, the newest first, and the keys of those that leave it: the same images, and the oldest beyond
/// `most`.
fn insert(mut list: Vec<Saved>, mut saved: Saved, most: usize) -> (Vec<Saved>, Vec<u64>) {
    let mut removed = Vec::new();
    list.retain(|other| {
        let stays = other.key() != saved.key() && !other.is_like(&saved);
        if !stays {
            saved.favourite |= other.favourite;
            removed.push(other.key());
        }
        stays
    });
    removed.retain(|key| *key != saved.key());
    list.push(saved);
    list.sort_by_key(|saved| Reverse(saved.key()));
    let mut room = most;
    list.retain(|saved| {
        let stays = saved.favourite || room > 0;
        room = room.saturating_sub(usize::from(!saved.favourite));
        if !stays {
            removed.push(saved.key());
        }
        stays
    });
    (list, removed)
}

/// An entry of the list.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What is stored.
    pub saved: Saved,
    /// What it was asked for.
    pub link: Link,
    /// Pixels of the first image that is shown of it, once they are decoded.
    pub shown: ArcRwSignal<Option<Arc<Shown>>>,
}

impl Entry {
    fn new(saved: Saved) -> Option<Self> {
        let link = saved.link()?;
        Some(Self { saved, link, shown: ArcRwSignal::new(None) })
    }

    /// Its name.
    pub fn key(&self) -> u64 {
        self.saved.key()
    }

    /// What its small image depends on.
    pub fn look(&self) -> (u64, bool, Vec<usize>) {
        (self.key(), self.saved.favourite, self.saved.session.preferred.clone())
    }

    /// Index of the image that is shown first.
    pub fn first(&self) -> usize {
        let ranking = self
            .saved
            .session
            .result
            .as_ref()
            .map(|result| result.ranking(self.link.samples, &self.saved.session.preferred));
        ranking.and_then(|ranking| ranking.shown().first().copied()).unwrap_or_default()
    }

    /// Tokens of that image.
    pub fn tokens(&self) -> Vec<ImageToken> {
        let result = self.saved.session.result.as_ref();
        result.and_then(|result| unpack(result.tokens.get(self.first())?)).unwrap_or_default()
    }
}

/// The list on the page.
#[derive(Clone, Copy)]
pub struct History {
    /// All entries, the newest first.
    pub entries: RwSignal<Vec<Arc<Entry>>>,
    /// The entry on display.
    pub current: RwSignal<Option<u64>>,
    /// Whether only favourites are listed.
    pub only_favourites: RwSignal<bool>,
    /// The entries that are compared, in the order of their choice; None unless the person compares.
    pub compared: RwSignal<Option<Vec<u64>>>,
}

impl History {
    /// An empty list.
    pub fn new() -> Self {
        Self {
            entries: RwSignal::new(Vec::new()),
            current: RwSignal::new(None),
            only_favourites: RwSignal::new(false),
            compared: RwSignal::new(None),
        }
    }

    /// The entry with this name.
    pub fn get(self, key: u64) -> Option<Arc<Entry>> {
        self.entries.with(|entries| entries.iter().find(|entry| entry.key() == key).cloned())
    }

    /// The entry to which a link with images leads.
    pub fn find(self, link: &Link) -> Option<Arc<Entry>> {
        let leads = |entry: &&Arc<Entry>| {
            entry.link.caption == link.caption && entry.saved.session.link_to_shown().as_ref() == Some(link)
        };
        self.entries.with_untracked(|entries| entries.iter().find(leads).cloned())
    }

    /// The entries of this model that are listed, and the number of those of other models.
    pub fn listed(self, model: &str) -> (Vec<Arc<Entry>>, usize) {
        let only_favourites = self.only_favourites.get();
        self.entries.with(|entries| {
            let own: Vec<_> = entries.iter().filter(|entry| entry.link.model == model).collect();
            let others = entries.len() - own.len();
            let listed = own.into_iter().filter(|entry| !only_favourites || entry.saved.favourite);
            (listed.cloned().collect(), others)
        })
    }

    /// Reads what is stored, by other tabs too.
    pub async fn load(self) {
        if let Some(stored) = archive::load().await {
            self.set(stored);
        }
    }

    /// Keeps a finished generation, and names it as the one on display.
    pub fn keep(self, session: Session) {
        let favourite =
            self.get_untracked(session.asked_at as u64).is_some_and(|entry| entry.saved.favourite);
        let saved = Saved { session, favourite };
        self.current.set(Some(saved.key()));
        self.put(saved);
    }

    /// Marks an entry as a favourite, or no longer.
    pub fn toggle_favourite(self, key: u64) {
        if let Some(entry) = self.get_untracked(key) {
            let saved = entry.saved.clone();
            self.put(Saved { favourite: !saved.favourite, ..saved });
        }
    }

    /// Deletes an entry.
    pub fn delete(self, key: u64) {
        self.entries.update(|entries| entries.retain(|entry| entry.key() != key));
        self.compared.update(|compared| {
            if let Some(compared) = compared {
                compared.retain(|other| *other != key);
            }
        });
        archive::delete(vec![key]);
    }

    /// Deletes all entries.
    pub fn delete_all(self) {
        self.entries.set(Vec::new());
        self.compared.set(None);
        archive::clear();
    }

    /// Adds an entry to those that are compared, or removes it.
    pub fn compare(self, key: u64) {
        self.compared.update(|compared| {
            let Some(compared) = compared else { return };
            match compared.iter().position(|other| *other == key) {
                Some(place) => drop(compared.remove(place)),
                None => compared.push(key),
            }
        });
    }

    fn get_untracked(self, key: u64) -> Option<Arc<Entry>> {
        untrack(|| self.get(key))
    }

    fn put(self, saved: Saved) {
        let key = saved.key();
        // An entry that did not change is not written again.
        if self.get_untracked(key).is_some_and(|entry| entry.saved == saved) {
            return;
        }
        let list =
            self.entries.with_untracked(|entries| entries.iter().map(|entry| entry.saved.clone()).collect());
        let (list, removed) = insert(list, saved, MOST);
        if let Some(saved) = list.iter().find(|saved| saved.key() == key) {
            archive::put(saved);
        }
        archive::delete(removed);
        self.set(list);
    }

    /// Shows a list. Entries that stay keep their pixels.
    fn set(self, mut list: Vec<Saved>) {
        list.sort_by_key(|saved| Reverse(saved.key()));
        let old = self.entries.get_untracked();
        let entry = |saved: Saved| {
            let before = old.iter().find(|entry| entry.key() == saved.key());
            let mut entry = Entry::new(saved)?;
            if let Some(before) = before.filter(|before| before.saved.session == entry.saved.session) {
                entry.shown = before.shown.clone();
            }
            Some(Arc::new(entry))
        };
        self.entries.set(list.into_iter().filter_map(entry).collect());
    }
}

#[cfg(test)]
mod tests {
    use dalle_shared::ImageToken;

    use super::*;

    fn saved(at: u64, id: u16) -> Saved {
        let link = Link::from_fragment("caption=a+fox&n=1&seed=7&model=m").expect("a link");
        let link = link.to_images(vec![(0, vec![ImageToken(id); 4])]);
        Saved { session: Session::of_link(&link, at as f64).expect("a session"), favourite: false }
    }

    fn keys(list: &[Saved]) -> Vec<u64> {
        list.iter().map(Saved::key).collect()
    }

    #[test]
    fn the_newest_is_first_and_the_same_images_are_kept_once() {
        let list = vec![Saved { favourite: true, ..saved(3, 1) }, saved(1, 2)];
        let (list, removed) = insert(list, saved(5, 1), 9);
        assert_eq!((keys(&list), removed), (vec![5, 1], vec![3]));
        assert!(list[0].favourite, "the mark stays");
        let (list, removed) = insert(list, Saved { favourite: true, ..saved(1, 2) }, 9);
        assert_eq!((keys(&list), removed), (vec![5, 1], vec![]), "a change stays in its place");
        assert!(list[1].favourite);
    }

    #[test]
    fn the_oldest_leave_a_full_list_but_favourites_stay() {
        let list = vec![saved(4, 4), Saved { favourite: true, ..saved(2, 2) }, saved(1, 1)];
        let (list, removed) = insert(list, saved(6, 6), 2);
        assert_eq!((keys(&list), removed), (vec![6, 4, 2], vec![1]));
    }

    #[test]
    fn what_is_stored_can_be_read_again() {
        let saved = saved(1_700_000_000_123, 9);
        let json = serde_json::to_string(&saved).expect("JSON");
        assert_eq!(serde_json::from_str::<Saved>(&json).expect("an entry"), saved);
        assert_eq!(saved.key(), 1_700_000_000_123);
    }
}
