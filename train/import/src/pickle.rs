//! A parser of Python pickles (protocols 2 to 5) that executes nothing.
//!
//! Where Python would import a class and call it, the parser records the class's name and its arguments. Checkpoints often contain
//! more than weights, such as the arguments of the training program, so all classes are recorded, but a
//! pickle that names a function that runs programs or reads files is refused. All sizes are bounded.
//!
//! `docs/decisions/0010-pytorch-files.md` explains why no library is used.

mod classes;
mod machine;
mod value;

use std::borrow::Cow;

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
    /// See [`PickleError`].
    pub fn read(bytes: &[u8]) -> Result<(Self, usize), PickleError> {
        let (values, root, length) = Machine::new(bytes).run()?;
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

    /// The bytes at `id`. Python 3 writes bytes for Python 2 as `_codecs.encode(text, "latin1")`.
    pub fn bytes(&self, id: Id) -> Option<Cow<'_, [u8]>> {
        match self.get(id) {
            Value::Bytes(bytes) => Some(Cow::Borrowed(bytes)),
            Value::Object(Object { class, arguments, .. }) if class == "_codecs.encode" => {
                let Value::Tuple(arguments) = self.get(*arguments) else { return None };
                let text = self.text(*arguments.first()?)?;
                text.chars()
                    .map(|c| u8::try_from(u32::from(c)).ok())
                    .collect::<Option<Vec<u8>>>()
                    .map(Cow::Owned)
            }
            _ => None,
        }
    }

    /// The function or class that created the object at `id`, and its arguments.
    pub fn call(&self, id: Id) -> Option<(&str, &[Id])> {
        let Value::Object(Object { class, arguments, .. }) = self.get(id) else { return None };
        let Value::Tuple(arguments) = self.get(*arguments) else { return None };
        Some((class, arguments))
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
        let (pickle, length) = Pickle::read(bytes).unwrap();
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
    fn a_function_that_runs_programs_is_refused_by_name() {
        // A malicious pickle that calls os.system("true").
        let bytes = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.";
        assert_eq!(Pickle::read(bytes).unwrap_err(), PickleError::UnknownClass("os.system".into()));
        let modern = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x8c\x04true\x85R.";
        assert_eq!(Pickle::read(modern).unwrap_err(), PickleError::UnknownClass("os.system".into()));
    }

    #[test]
    fn damaged_pickles_are_errors() {
        let whole = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00b\x8a\x01\x05u.";
        assert!(Pickle::read(whole).is_ok());
        for end in 0..whole.len() {
            assert!(Pickle::read(&whole[..end]).is_err(), "cut at {end}");
        }
        for damaged in [
            &b"0."[..],
            b"1.",
            b"2.",
            b"(K\x01d.",
            b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.",
            b"\x8b\xff\xff\xff\xff.",
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
            assert!(Pickle::read(damaged).is_err(), "{damaged:?}");
        }
    }

    #[test]
    fn objects_beside_the_weights_are_recorded() {
        // pickle.dumps({"a": argparse.Namespace(lr=0.5), "b": {1}, "c": b"xy", "d": 1 << 70, "e": collections.deque([1])}, 4)
        let bytes = b"\x80\x04\x95{\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94\x8c\x08argparse\x94\x8c\tNamespace\x94\x93\x94\
            )\x81\x94}\x94\x8c\x02lr\x94G?\xe0\x00\x00\x00\x00\x00\x00sb\x8c\x01b\x94\x8f\x94(K\x01\x90\x8c\x01c\x94C\x02xy\x94\
            \x8c\x01d\x94\x8a\t\x00\x00\x00\x00\x00\x00\x00\x00@\x8c\x01e\x94\x8c\x0bcollections\x94\x8c\x05deque\x94\x93\x94)R\x94K\x01au.";
        let (pickle, length) = Pickle::read(bytes).unwrap();
        assert_eq!(length, bytes.len());
        let value = |key| pickle.entry(pickle.root(), key).unwrap();
        assert!(
            matches!(value("a"), Value::Object(Object { class, state: Some(_), .. }) if class == "argparse.Namespace")
        );
        assert!(matches!(value("b"), Value::List(elements) if elements.len() == 1));
        assert_eq!(*value("c"), Value::Bytes(b"xy".to_vec()));
        assert!(matches!(value("d"), Value::Bytes(bytes) if bytes.len() == 9));
        assert!(matches!(value("e"), Value::Object(Object { class, .. }) if class == "collections.deque"));
    }

    proptest::proptest! {
        #[test]
        fn no_input_causes_a_panic(bytes: Vec<u8>) {
            let _ = Pickle::read(&bytes);
        }
    }
}
