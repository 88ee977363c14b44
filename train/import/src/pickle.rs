//! A pickle read as data: the machine of Python's `pickle` (protocols 2 to 5) that executes nothing.
//!
//! Where Python would import a class and call it, this notes the class's name and its arguments. Only names on the caller's
//! list are accepted, sizes are bounded, and opcodes that no PyTorch file contains are refused.

mod machine;

use machine::Machine;

/// Most values of one pickle. The released dVAE's have under 10,000.
const MAX_VALUES: usize = 1 << 20;

/// A pickle that is not read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickleError {
    /// It names a class or function that is not on the list.
    #[error(
        "it names `{0}`, which is not one of the classes such a checkpoint is made of; nothing was executed"
    )]
    UnknownClass(String),
    /// An instruction that PyTorch does not write.
    #[error("it has the instruction {opcode:#04x} at byte {at}, which no PyTorch file contains")]
    UnknownOpcode {
        /// The instruction.
        opcode: u8,
        /// Where.
        at: usize,
    },
    /// It ends too early or contradicts itself.
    #[error("it is damaged at byte {at}: expected {expected}")]
    Malformed {
        /// Where.
        at: usize,
        /// What should be there.
        expected: &'static str,
    },
    /// It is larger than any checkpoint.
    #[error("it holds more than {MAX_VALUES} values, far more than any checkpoint")]
    TooLarge,
}

/// Place of a value in its [`Pickle`]: Python's objects are shared and change after they were shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(usize);

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// None.
    None,
    /// True or False.
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string.
    Text(String),
    /// A list.
    List(Vec<Id>),
    /// A tuple.
    Tuple(Vec<Id>),
    /// A dictionary, in order.
    Dict(Vec<(Id, Id)>),
    /// A class or function, `module.name`.
    Class(String),
    /// What calling a class or function would give.
    Object(Object),
    /// Something kept outside the pickle, under this name: PyTorch's storages.
    Persistent(Id),
}

/// What calling `class(*arguments)` would give, with what was put into it afterwards.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// `module.name`.
    pub class: String,
    /// The tuple of its arguments. Shared, as all values are: a pickle may name one tuple in many calls.
    pub arguments: Id,
    /// Entries assigned by key.
    pub items: Vec<(Id, Id)>,
    /// The state it was given.
    pub state: Option<Id>,
}

/// The values of a pickle.
#[derive(Debug)]
pub struct Pickle {
    values: Vec<Value>,
    root: Id,
}

impl Pickle {
    /// Reads one pickle from the beginning of `bytes`; also gives its length in bytes.
    ///
    /// # Errors
    /// It names a class that is not in `classes`, is damaged, too large, or not PyTorch's.
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

    /// All values, in the order in which they were made.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        self.values.iter()
    }

    /// The value under a text key of a dictionary or of an ordered one.
    pub fn entry(&self, value: &Value, key: &str) -> Option<&Value> {
        self.entries(value)?.iter().rev().find_map(|&(k, v)| match self.get(k) {
            Value::Text(text) if text == key => Some(self.get(v)),
            _ => None,
        })
    }

    /// The entries of a dictionary or of an ordered one.
    pub fn entries<'a>(&self, value: &'a Value) -> Option<&'a [(Id, Id)]> {
        match value {
            Value::Dict(entries) => Some(entries),
            Value::Object(Object { class, items, .. }) if class == "collections.OrderedDict" => Some(items),
            _ => None,
        }
    }

    /// The text at `id`.
    pub fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The integers of a tuple or list, none negative.
    pub fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        let (Value::Tuple(ids) | Value::List(ids)) = self.get(id) else { return None };
        ids.iter().map(|&id| self.size(id)).collect()
    }

    /// The integer at `id`, not negative.
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
    fn numbers_texts_and_shared_containers_are_what_python_pickled() {
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
        // What a hostile pickle does: os.system("true").
        let bytes = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.";
        assert_eq!(
            Pickle::read(bytes, &["collections.OrderedDict"]).unwrap_err(),
            PickleError::UnknownClass("os.system".into())
        );
        let modern = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x8c\x04true\x85R.";
        assert_eq!(Pickle::read(modern, &[]).unwrap_err(), PickleError::UnknownClass("os.system".into()));
    }

    #[test]
    fn damage_of_any_kind_is_an_error() {
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
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Pickle::read(&bytes, &["a.b"]);
        }
    }
}
