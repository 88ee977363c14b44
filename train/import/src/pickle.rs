//! A parser of Python pickles (protocols 2 to 5) that executes nothing.
//!
//! Where Python would import a class and call it, the parser records the class's name and its arguments. It accepts only the names
//! that the caller lists, bounds all sizes, and refuses opcodes that PyTorch does not write.
//!
//! `docs/decisions/0010-pytorch-files.md` explains why no library is used.

mod machine;
mod value;

use machine::Machine;

pub use value::{Id, Object, PickleError, Value};

/// A parsed pickle.
#[derive(Debug)]
pub struct Pickle {
    values: Vec<Value>,
    root: Id,
}

impl Pickle {
    /// Parses the pickle at the start of `bytes`. Also returns its length in bytes.
    ///
    /// # Errors
    /// See [`PickleError`]. `classes` are the names that are accepted.
    pub fn read(bytes: &[u8], classes: &[&str]) -> Result<(Self, usize), PickleError> {
        let (values, root, length) = Machine::new(bytes, classes).run()?;
        Ok((Self { values, root }, length))
    }

    /// The outermost value.
    pub fn root(&self) -> &Value {
        self.get(self.root)
    }

    /// The value at `id`.
    pub fn get(&self, id: Id) -> &Value {
        &self.values[id.0]
    }

    /// All values, in the order in which they were created.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        self.values.iter()
    }

    /// The value of a string key of a dict or OrderedDict.
    pub fn entry(&self, value: &Value, key: &str) -> Option<&Value> {
        self.entries(value)?.iter().rev().find_map(|&(k, v)| match self.get(k) {
            Value::Text(text) if text == key => Some(self.get(v)),
            _ => None,
        })
    }

    /// The items of a dict or OrderedDict.
    pub fn entries<'a>(&self, value: &'a Value) -> Option<&'a [(Id, Id)]> {
        match value {
            Value::Dict(entries) => Some(entries),
            Value::Object(Object { class, items, .. }) if class == "collections.OrderedDict" => Some(items),
            _ => None,
        }
    }

    /// The string at `id`.
    pub fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The non-negative integers of a tuple or list.
    pub fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        let (Value::Tuple(ids) | Value::List(ids)) = self.get(id) else { return None };
        ids.iter().map(|&id| self.size(id)).collect()
    }

    /// The non-negative integer at `id`.
    pub fn size(&self, id: Id) -> Option<usize> {
        match self.get(id) {
            Value::Int(int) => usize::try_from(*int).ok(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_shared_containers_match_what_python_pickled() {
        // pickle.dumps({"a": [1, -2, 300, 2**40, 1.5, None, True], "b": x}, 2) where x is the list under "a".
        let bytes = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffM,\x01\x8a\x06\x00\x00\x00\x00\x00\x01G?\xf8\x00\x00\x00\x00\x00\x00N\x88eX\x01\x00\x00\x00bq\x03h\x02u.rest";
        let (pickle, length) = Pickle::read(bytes, &[]).unwrap();
        assert_eq!(&bytes[length..], b"rest");
        let list = pickle.entry(pickle.root(), "a").unwrap();
        assert_eq!(pickle.entry(pickle.root(), "b"), Some(list));
        let Value::List(ids) = list else { panic!("{list:?}") };
        let values: Vec<Value> = ids.iter().map(|&id| pickle.get(id).clone()).collect();
        let expected = [
            Value::Int(1),
            Value::Int(-2),
            Value::Int(300),
            Value::Int(1 << 40),
            Value::Float(1.5),
            Value::None,
            Value::Bool(true),
        ];
        assert_eq!(values, expected);
    }

    #[test]
    fn a_class_that_is_not_listed_is_refused_by_name() {
        // A malicious pickle that calls os.system("true").
        let bytes = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.";
        assert_eq!(
            Pickle::read(bytes, &["collections.OrderedDict"]).unwrap_err(),
            PickleError::UnknownClass("os.system".into())
        );
        let modern = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x8c\x04true\x85R.";
        assert_eq!(Pickle::read(modern, &[]).unwrap_err(), PickleError::UnknownClass("os.system".into()));
    }

    #[test]
    fn damaged_pickles_are_errors() {
        let whole = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00b\x8a\x01\x05u.";
        let classes = ["collections.OrderedDict"];
        assert!(Pickle::read(whole, &classes).is_ok());
        for end in 0..whole.len() {
            assert!(Pickle::read(&whole[..end], &classes).is_err(), "cut at {end}");
        }
        for damaged in [
            &b"0."[..],
            b"(.",
            b"K\x01a.",
            b"h\x00.",
            b"t.",
            b"}(K\x01u.",
            b"K\x01K\x01R.",
            b"i.",
            b"\x8a\xff.",
            b"X\xff\xff\xff\xffa.",
        ] {
            assert!(Pickle::read(damaged, &classes).is_err(), "{damaged:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_input_causes_a_panic(bytes: Vec<u8>) {
            let _ = Pickle::read(&bytes, &["a.b"]);
        }
    }
}
