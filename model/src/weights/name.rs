//! Names of tensors in weights files.

/// The name of the parameter at `path` in a module: the path joined by dots, except in transformer layers, where files have one
/// level less. `layers.3.attention.norm.gamma` is named `blocks.3.norm_attention.gamma`, and `layers.3.mlp.fc1.weight` is named
/// `blocks.3.fc1.weight`.
pub fn name(path: &[String]) -> String {
    let mut parts: Vec<&str> = path.iter().map(String::as_str).collect();
    if let Some(layers) = parts.iter().position(|part| *part == "layers")
        && let Some(norm) = match parts.get(layers + 2) {
            Some(&"attention") => Some("norm_attention"),
            Some(&"mlp") => Some("norm_mlp"),
            _ => None,
        }
    {
        parts[layers] = "blocks";
        parts.remove(layers + 2);
        if let Some(part) = parts.get_mut(layers + 2).filter(|part| **part == "norm") {
            *part = norm;
        }
    }
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensor_names_in_files_are_stable() {
        for (path, expected) in [
            ("layers.3.attention.norm.gamma", "blocks.3.norm_attention.gamma"),
            ("layers.3.attention.qkv.weight", "blocks.3.qkv.weight"),
            ("layers.12.mlp.norm.beta", "blocks.12.norm_mlp.beta"),
            ("layers.12.mlp.fc2.bias", "blocks.12.fc2.bias"),
            ("text.layers.0.mlp.fc1.weight", "text.blocks.0.fc1.weight"),
            ("norm.gamma", "norm.gamma"),
            ("groups.1.0.res_path.conv_2.w", "groups.1.0.res_path.conv_2.w"),
        ] {
            let path: Vec<String> = path.split('.').map(str::to_owned).collect();
            assert_eq!(name(&path), expected);
        }
        assert_eq!(name(&[]), "");
    }
}
