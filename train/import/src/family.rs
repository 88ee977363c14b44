//! Recognises checkpoints of other models by the names of their tensors, to say in which part they differ.

/// A model that is known but cannot be imported.
struct Family {
    /// Names, or parts of names, that all occur.
    marks: &'static [&'static str],
    /// What it is.
    what: &'static str,
    /// How it differs.
    differs: &'static str,
}

const FAMILIES: [Family; 6] = [
    Family {
        marks: &["quantize.embedding.weight", "decoder.conv_in.weight"],
        what: "a VQGAN (taming-transformers)",
        differs: "it quantises to the nearest code vector, and has group normalisation and attention, which the paper's dVAE has not",
    },
    Family {
        marks: &["post_quant_conv.weight", "decoder.conv_in.weight"],
        what: "the VQGAN decoder of min-dalle or DALL·E mini",
        differs: "it has group normalisation and attention, which the paper's dVAE has not",
    },
    Family {
        marks: &["embed_tokens.weight", "pre_self_attn_layer_norm"],
        what: "the transformer of min-dalle or DALL·E mini",
        differs: "it is BART, an encoder and a decoder with gated linear units over the tokens of a VQGAN, and no dVAE; the paper's prior \
                  is a decoder alone",
    },
    Family {
        marks: &["codebook.weight", "encoder.0.0.weight"],
        what: "the DiscreteVAE of DALLE-pytorch",
        differs: "its encoder and decoder are plain strided convolutions, without the residual blocks of the paper's dVAE",
    },
    Family {
        marks: &["text_emb.weight", "image_emb.weight", "to_logits"],
        what: "the transformer of DALLE-pytorch",
        differs: "it contains no dVAE of OpenAI, and its layers differ from the paper's prior: gated units, shifted tokens and rotary \
                  positions",
    },
    Family {
        marks: &["visual.conv1.weight", "token_embedding.weight"],
        what: "CLIP",
        differs: "it contains no dVAE",
    },
];

/// What a checkpoint with these names is and how it differs, if it is known.
pub fn recognise(names: &[&str]) -> Option<String> {
    let occurs = |mark: &str| names.iter().any(|name| name.contains(mark));
    let family = FAMILIES.iter().find(|family| family.marks.iter().all(|mark| occurs(mark)))?;
    Some(format!("it is {}, which cannot be imported: {}", family.what, family.differs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_models_are_recognised_by_the_names_of_their_tensors() {
        for (names, what) in [
            (
                &["vae.codebook.weight", "vae.encoder.0.0.weight", "vae.decoder.0.weight"][..],
                "DiscreteVAE of DALLE-pytorch",
            ),
            (
                &[
                    "text_emb.weight",
                    "image_emb.weight",
                    "transformer.layers.layers.0.0.scale",
                    "to_logits.1.weight",
                ],
                "transformer of DALLE",
            ),
            (
                &["embed_tokens.weight", "layers.0.pre_self_attn_layer_norm.weight", "final_ln.weight"],
                "min-dalle",
            ),
            (
                &["embedding.weight", "post_quant_conv.weight", "decoder.conv_in.weight"],
                "VQGAN decoder of min-dalle",
            ),
            (&["vae.model.quantize.embedding.weight", "vae.model.decoder.conv_in.weight"], "taming"),
        ] {
            let found = recognise(names).unwrap();
            assert!(found.contains(what), "{what}: {found}");
        }
        assert_eq!(recognise(&["blocks.input.w"]), None);
    }
}
