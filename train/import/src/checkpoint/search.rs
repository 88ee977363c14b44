//! Finds the tensors in a checkpoint's pickle, with their names.
//!
//! A state dict holds them by name, a training program's checkpoint below a key, a module in its submodules.

use super::rebuild::is_tensor;
use crate::error::{CheckpointError, content};
use crate::pickle::{Id, Object, Pickle, PickleError, Value};

/// Maximum length of a tensor's name in bytes.
const MAX_NAME: usize = 512;
/// What a key must be.
const NAME: &str = "a name of a tensor or a module";
/// Maximum number of tensors and modules of a checkpoint.
const MAX_TENSORS: usize = 1 << 16;
/// Maximum number of entries of dicts that are looked at.
const MAX_VISITS: usize = 1 << 20;

/// Keys below which training programs keep the weights, beside other things. The first one that holds tensors is taken.
const WRAPPERS: [&str; 14] = [
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "weights",
    "ema",
    "ema_state_dict",
    "model_ema",
    "params_ema",
    "params",
    "net",
    "network",
    "module",
    "generator",
];
/// Dicts within dicts that are searched for tensors.
const MAX_DEPTH: usize = 4;

/// The names of a checkpoint's tensors, and where the pickle has them. `classes` are the module classes that are accepted; `is_plain`
/// says that the pickle is not part of a PyTorch file.
///
/// # Errors
/// The pickle has no tensors, a class that is not accepted, or too many tensors or modules.
pub fn named_tensors(
    pickle: &Pickle,
    classes: &[&str],
    is_plain: bool,
) -> Result<Vec<(String, Id)>, CheckpointError> {
    let (root, search) = (pickle.root(), Search { pickle, classes });
    let found = match pickle.entries(root) {
        Some(_) => search.weights(root, MAX_DEPTH, &mut 0)?,
        None if is_plain => return Err(CheckpointError::Format),
        None => search.module(root)?,
    };
    if found.is_empty() && pickle.entries(root).is_some() {
        let expected = "tensors, alone or below a key such as `state_dict`";
        return Err(if is_plain { CheckpointError::Format } else { content("the pickle", expected) });
    }
    if found.len() > MAX_TENSORS {
        return Err(too_many());
    }
    Ok(found)
}

struct Search<'a> {
    pickle: &'a Pickle,
    classes: &'a [&'a str],
}

impl Search<'_> {
    /// The tensors of a dict: those below a key of [`WRAPPERS`], otherwise its own, otherwise those of the dicts in it. Dicts may be
    /// shared, so often that a traversal would never end; the number of visits is bounded.
    fn weights(
        &self,
        dict: &Value,
        depth: usize,
        visits: &mut usize,
    ) -> Result<Vec<(String, Id)>, CheckpointError> {
        let Some(entries) = self.pickle.entries(dict).filter(|_| depth > 0) else { return Ok(Vec::new()) };
        *visits += 1 + entries.len();
        if *visits > MAX_VISITS {
            return Err(too_many());
        }
        for wrapper in WRAPPERS {
            let Some(part) = self.pickle.entry(dict, wrapper) else { continue };
            let found = match self.is_module(part) {
                true => self.module(part)?,
                false => self.weights(part, depth - 1, visits)?,
            };
            if !found.is_empty() {
                return Ok(found);
            }
        }
        let named: Vec<(&str, Id)> =
            entries.iter().filter_map(|&(key, id)| Some((self.pickle.text(key)?, id))).collect();
        let mut found = Vec::new();
        for &(name, id) in named.iter().filter(|(_, id)| is_tensor(self.pickle, *id)) {
            found.push((join("", name)?, id));
        }
        if found.is_empty() {
            for (name, id) in named {
                for (inner, id) in self.weights(self.pickle.get(id), depth - 1, visits)? {
                    found.push((join(name, &inner)?, id));
                }
            }
        }
        Ok(found)
    }

    fn is_module(&self, value: &Value) -> bool {
        let Value::Object(Object { state: Some(state), .. }) = value else { return false };
        self.pickle.entry(self.pickle.get(*state), "_parameters").is_some()
    }

    /// The parameters of a pickled `torch.nn.Module` and its submodules. Modules may be shared, so often that a traversal would never
    /// end; the number of visits is bounded.
    fn module(&self, root: &Value) -> Result<Vec<(String, Id)>, CheckpointError> {
        let mut found = Vec::new();
        let mut pending = vec![(String::new(), root)];
        let mut visits = 0;
        while let Some((path, value)) = pending.pop() {
            let place = if path.is_empty() { "the pickle" } else { &path };
            let Value::Object(Object { state: Some(state), class, .. }) = value else {
                return Err(content(place, "a state dict or a module"));
            };
            if !self.classes.contains(&class.as_str()) {
                return Err(PickleError::UnknownClass(class.clone()).into());
            }
            let state = self.pickle.get(*state);
            visits += self.pickle.entries(state).map_or(0, <[_]>::len);
            let parts = |name| {
                let part = self.pickle.entry(state, name).and_then(|part| self.pickle.entries(part));
                part.ok_or_else(|| content(place, "a module"))
            };
            let (parameters, modules) = (parts("_parameters")?, parts("_modules")?);
            visits += 1 + parameters.len() + modules.len();
            if visits > MAX_TENSORS {
                return Err(too_many());
            }
            for &(key, id) in parameters {
                if *self.pickle.get(id) != Value::None {
                    found.push((self.join(&path, key)?, id));
                }
            }
            for &(key, id) in modules {
                pending.push((self.join(&path, key)?, self.pickle.get(id)));
            }
        }
        Ok(found)
    }

    /// The name of a parameter or module below `path`.
    fn join(&self, path: &str, key: Id) -> Result<String, CheckpointError> {
        join(path, self.pickle.text(key).ok_or_else(|| content("a key of the pickle", NAME))?)
    }
}

/// The name `path.name`, or `name` for an empty path.
fn join(path: &str, name: &str) -> Result<String, CheckpointError> {
    if path.len() + name.len() >= MAX_NAME {
        return Err(content("a key of the pickle", NAME));
    }
    Ok(if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") })
}

fn too_many() -> CheckpointError {
    CheckpointError::TooLarge { what: "the number of tensors and modules".into(), limit: MAX_TENSORS as u64 }
}
