//! Names of the files of a model folder (the Hugging Face layout).

/// The configuration, which makes a folder a model folder.
pub const CONFIG: &str = "config.json";
/// The caption tokenizer.
pub const TOKENIZER: &str = "tokenizer.json";
/// The prior's weights.
pub const PRIOR: &str = "model.safetensors";
/// The dVAE encoder's weights.
pub const ENCODER: &str = "encoder.safetensors";
/// The dVAE decoder's weights.
pub const DECODER: &str = "decoder.safetensors";
/// The contrastive model's configuration. It and its weights are optional: they judge pictures and draw none, so they are no part
/// of the folder's identity.
pub const CLIP_CONFIG: &str = "clip.json";
/// The contrastive model's weights.
pub const CLIP: &str = "clip.safetensors";
