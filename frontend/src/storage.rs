//! What this tab stores over a reload. Without storage a reload starts empty; nothing else depends on it.

use crate::browser;
use crate::link::Link;
use crate::place::Place;
use crate::session::Session;

const SESSION: &str = "dalle.generation";
const LINK: &str = "dalle.link";
const PLACE: &str = "dalle.place";

/// Stores the session.
pub fn store(session: &Session) {
    if let (Some(storage), Ok(json)) = (browser::session_storage(), serde_json::to_string(session)) {
        let _ = storage.set_item(SESSION, &json);
    }
}

/// The stored session and the link to its images, if they can be read.
pub fn load() -> Option<(Session, Link)> {
    let json = browser::session_storage()?.get_item(SESSION).ok()??;
    let session: Session = serde_json::from_str(&json).ok()?;
    let link = Link::from_fragment(&session.link)?;
    Some((session, link))
}

/// Removes the stored session.
pub fn forget() {
    if let Some(storage) = browser::session_storage() {
        let _ = storage.remove_item(SESSION);
    }
}

/// Stores the link that this tab has just followed, or put into its address.
pub fn store_link(link: &Link) {
    if let Some(storage) = browser::session_storage() {
        let _ = storage.set_item(LINK, &link.to_fragment());
    }
}

/// Whether this tab has followed a link, or put it into its address, before the page was loaded.
pub fn knows_link(link: &Link) -> bool {
    let stored = browser::session_storage().and_then(|storage| storage.get_item(LINK).ok().flatten());
    stored.and_then(|fragment| Link::from_fragment(&fragment)).is_some_and(|known| known == *link)
}

/// Stores where images are to be sampled, for all tabs.
pub fn store_place(place: Place) {
    if let Some(storage) = browser::local_storage() {
        let _ = storage.set_item(PLACE, place.name());
    }
}

/// Where the person wants images to be sampled, if they have chosen.
pub fn place() -> Option<Place> {
    let name = browser::local_storage()?.get_item(PLACE).ok()??;
    [Place::Server, Place::Browser].into_iter().find(|place| place.name() == name)
}
