//! What this tab stores of its generation over a reload. Without storage a reload starts empty; nothing else depends on it.

use crate::browser;
use crate::session::Session;

const KEY: &str = "dalle.generation";

/// Stores the session.
pub fn store(session: &Session) {
    if let (Some(storage), Ok(json)) = (browser::session_storage(), serde_json::to_string(session)) {
        let _ = storage.set_item(KEY, &json);
    }
}

/// The stored session, if it can be read.
pub fn load() -> Option<Session> {
    serde_json::from_str(&browser::session_storage()?.get_item(KEY).ok()??).ok()
}

/// Removes the stored session.
pub fn forget() {
    if let Some(storage) = browser::session_storage() {
        let _ = storage.remove_item(KEY);
    }
}
