//! File names of a model folder (Hugging Face's layout).

/// The configuration. A folder with this file is a model folder.
pub const CONFIG: &str = "config.json";
/// The caption tokenizer.
pub const TOKENIZER: &str = "tokenizer.json";
/// The prior's weights.
pub const PRIOR: &str = "model.safetensors";
/// The dVAE encoder's weights.
pub const ENCODER: &str = "encoder.safetensors";
/// The dVAE decoder's weights.
pub const DECODER: &str = "decoder.safetensors";
/// What the captions of the prior's training say, a [`Vocabulary`](crate::Vocabulary). Optional: the page suggests captions from it. It
/// changes no image, so it is not part of the folder's hash. Datasets that a recipe made have such a file too.
pub const VOCABULARY: &str = "vocabulary.json";
/// The model card, in Markdown. Optional: the page quotes its section "Limitations" and links to it. Like the vocabulary it is not part of
/// the folder's hash.
pub const MODEL_CARD: &str = "README.md";
/// CLIP's configuration. It and CLIP's weights are optional. They score images and do not change them, so they are not part of the
/// folder's hash.
pub const CLIP_CONFIG: &str = "clip.json";
/// CLIP's weights.
pub const CLIP: &str = "clip.safetensors";
