//! Functions of the browser: clock, storage, address, clipboard, focus.

use js_sys::Date;
use leptos::prelude::{document, window};
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::JsFuture;
use web_sys::{HtmlAnchorElement, HtmlElement, Storage};

/// Milliseconds since 1970.
pub fn now() -> f64 {
    Date::now()
}

/// A random seed of 32 bits, short enough to read aloud.
pub fn random_seed() -> u64 {
    let mut bytes = [0; 4];
    match window().crypto().map(|crypto| crypto.get_random_values_with_u8_array(&mut bytes)) {
        Ok(Ok(_)) => u64::from(u32::from_le_bytes(bytes)),
        // Without a random source, the clock: a seed is no secret.
        _ => now() as u64,
    }
}

/// This tab's storage; None where the browser denies it.
pub fn session_storage() -> Option<Storage> {
    window().session_storage().ok().flatten()
}

/// The storage shared by all tabs; None where the browser denies it.
pub fn local_storage() -> Option<Storage> {
    window().local_storage().ok().flatten()
}

/// The page's origin, such as `https://a.example`.
pub fn origin() -> String {
    window().location().origin().unwrap_or_default()
}

/// The folder that the page is in, as a path without a slash at its end; empty for the root of its origin.
pub fn base_path() -> String {
    let path = window().location().pathname().unwrap_or_default();
    path.rsplit_once('/').map_or_else(String::new, |(folder, _)| folder.to_owned())
}

/// The value of a parameter in the page's address.
pub fn query(name: &str) -> Option<String> {
    let search = window().location().search().ok()?;
    let mut pairs = form_urlencoded::parse(search.trim_start_matches('?').as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// The fragment of the page's address.
pub fn fragment() -> String {
    window().location().hash().unwrap_or_default()
}

/// Puts a fragment into the page's address, without an entry in the history.
pub fn set_fragment(fragment: &str) {
    if let Ok(history) = window().history() {
        let _ = history.replace_state_with_url(&js_sys::Object::new(), "", Some(&format!("#{fragment}")));
    }
}

/// Reloads the page.
pub fn reload() {
    let _ = window().location().reload();
}

/// Makes the browser save `href` as a file.
pub fn save(href: &str, name: &str) {
    let Ok(element) = document().create_element("a") else { return };
    let anchor: HtmlAnchorElement = element.unchecked_into();
    anchor.set_href(href);
    anchor.set_download(name);
    anchor.click();
}

/// Copies the page's address; None where the browser has no clipboard (outside secure contexts).
pub fn copy_address() -> Option<JsFuture> {
    let clipboard = window().navigator().clipboard();
    let address = window().location().href().ok()?;
    (!clipboard.is_undefined()).then(|| JsFuture::from(clipboard.write_text(&address)))
}

/// Gives an element the focus, and opens the panel that it is in.
pub fn focus(id: &str) {
    let Some(element) = document().get_element_by_id(id) else { return };
    if let Ok(Some(panel)) = element.closest("details") {
        let _ = panel.set_attribute("open", "");
    }
    let _ = element.unchecked_into::<HtmlElement>().focus();
}

/// Whether no element has the focus.
pub fn nothing_has_focus() -> bool {
    let document = document();
    document.active_element().is_none_or(|element| element.tag_name() == "BODY")
}

/// Where the page has one column, scrolls to the images.
pub fn scroll_to_result() {
    let narrow =
        window().match_media("(max-width: 61.99rem)").ok().flatten().is_some_and(|query| query.matches());
    if narrow && let Some(result) = document().get_element_by_id("result") {
        result.scroll_into_view();
    }
}

/// Adds a class to the root of the page, or removes it.
pub fn set_root_class(name: &str, on: bool) {
    if let Some(root) = document().document_element() {
        let _ = root.class_list().toggle_with_force(name, on);
    }
}

/// Lets the page fill the screen, where the browser can.
pub fn enter_full_screen() {
    if let Some(root) = document().document_element() {
        let _ = root.request_fullscreen();
    }
}

/// The opposite of [`enter_full_screen`].
pub fn leave_full_screen() {
    if document().fullscreen_element().is_some() {
        document().exit_fullscreen();
    }
}
