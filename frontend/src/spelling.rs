//! The page's tokenizer for scripts: `const { CaptionTokenizer } = await import("./page.js")`. A test uses it to check that captions
//! have the same ids here as natively.

use dalle_shared::Tokenizer;
use wasm_bindgen::prelude::*;

/// A `tokenizer.json`, ready to encode.
#[wasm_bindgen]
pub struct CaptionTokenizer(Tokenizer);

#[wasm_bindgen]
impl CaptionTokenizer {
    /// From the bytes of the file.
    #[wasm_bindgen(constructor)]
    pub fn new(json: &[u8]) -> Result<Self, JsError> {
        Ok(Self(Tokenizer::from_json(json)?))
    }

    /// All ids of a caption.
    pub fn encode(&self, caption: &str) -> Result<Vec<u32>, JsError> {
        Ok(self.0.encode(caption, usize::MAX)?.ids.into_iter().map(|id| id.0).collect())
    }
}
