//! Functions of the browser: clock, storage, address, clipboard, focus.

use js_sys::{Array, Date, Object, Reflect, Uint8Array};
use leptos::prelude::{document, window};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, BlobPropertyBag, ClipboardItem, File, HtmlAnchorElement, HtmlElement, Storage, Url};

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

/// The content of a `meta` element of the page.
pub fn meta(name: &str) -> Option<String> {
    let element = document().query_selector(&format!("meta[name={name}]")).ok()??;
    element.get_attribute("content")
}

/// The fragment of the page's address.
pub fn fragment() -> String {
    window().location().hash().unwrap_or_default()
}

/// Puts a fragment into the page's address, in place of the present one, or as a new entry of the history. An empty one removes the
/// fragment.
pub fn set_fragment(fragment: &str, new_entry: bool) {
    let location = window().location();
    let path = location.pathname().unwrap_or_default() + &location.search().unwrap_or_default();
    let url = if fragment.is_empty() { path } else { format!("#{fragment}") };
    if let Ok(history) = window().history() {
        let _ = match new_entry {
            true => history.push_state_with_url(&Object::new(), "", Some(&url)),
            false => history.replace_state_with_url(&Object::new(), "", Some(&url)),
        };
    }
}

/// Reloads the page.
pub fn reload() {
    let _ = window().location().reload();
}

/// Makes the browser save a file.
pub fn save(bytes: &[u8], kind: &str, name: &str) {
    let address = blob(bytes, kind).and_then(|blob| Url::create_object_url_with_blob(&blob).ok());
    let (Some(address), Ok(element)) = (address, document().create_element("a")) else { return };
    let anchor: HtmlAnchorElement = element.unchecked_into();
    anchor.set_href(&address);
    anchor.set_download(name);
    anchor.click();
    // The browser reads it after the click.
    leptos::prelude::set_timeout(
        move || {
            let _ = Url::revoke_object_url(&address);
        },
        std::time::Duration::from_secs(60),
    );
}

/// Copies a PNG file; None where the browser cannot (outside secure contexts).
pub fn copy_png(bytes: &[u8]) -> Option<JsFuture> {
    let clipboard = window().navigator().clipboard();
    let kinds = Object::new();
    Reflect::set(&kinds, &"image/png".into(), blob(bytes, "image/png")?.as_ref()).ok()?;
    // Without a clipboard there is no ClipboardItem either.
    if clipboard.is_undefined() || Reflect::get(&window(), &"ClipboardItem".into()).ok()?.is_undefined() {
        return None;
    }
    let item = ClipboardItem::new_with_record_from_str_to_blob_promise(&kinds).ok()?;
    Some(JsFuture::from(clipboard.write(&Array::of1(&item))))
}

/// Bytes as a blob of this type.
pub fn blob(bytes: &[u8], kind: &str) -> Option<Blob> {
    let options = BlobPropertyBag::new();
    options.set_type(kind);
    let parts = Array::of1(&Uint8Array::from(bytes));
    Blob::new_with_u8_array_sequence_and_options(&parts, &options).ok()
}

/// The content of a file.
///
/// # Errors
/// The browser cannot read it.
pub async fn read(file: &File) -> Result<Vec<u8>, JsValue> {
    let buffer = JsFuture::from(file.array_buffer()).await?;
    Ok(Uint8Array::new(&buffer).to_vec())
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
