//! The values of a pickle, and why one is refused.

/// Maximum number of values of a pickle. Those of the released dVAE have fewer than 10,000.
pub(super) const MAX_VALUES: usize = 1 << 20;

/// Why a pickle is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickleError {
    /// A class of which the caller needs to know, or a function that runs programs or reads files.
    #[error("it uses `{0}`, which is not a class of this kind of checkpoint; nothing was executed")]
    UnknownClass(String),
    /// An opcode that PyTorch does not write.
    #[error("it contains the opcode {opcode:#04x} at byte {at}, which PyTorch does not write")]
    UnknownOpcode {
        /// The opcode.
        opcode: u8,
        /// Its position in bytes.
        at: usize,
    },
    /// A truncated or inconsistent pickle.
    #[error("it is damaged at byte {at}: expected {expected}")]
    Malformed {
        /// The position in bytes.
        at: usize,
        /// What was expected.
        expected: &'static str,
    },
    /// More values than any checkpoint has.
    #[error("it has more than {MAX_VALUES} values, far more than any checkpoint")]
    TooLarge,
}

/// Index of a value in its [`Pickle`](super::Pickle). Values are referred to by index because Python objects are shared and mutable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(pub(super) usize);

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
    /// Bytes, or an integer of more than 64 bits.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Id>),
    /// A tuple.
    Tuple(Vec<Id>),
    /// A dictionary, in order.
    Dict(Vec<(Id, Id)>),
    /// A class or function, `module.name`.
    Class(String),
    /// The result of calling a class or function.
    Object(Object),
    /// A persistent id, which refers to an object outside the pickle: PyTorch's storages.
    Persistent(Id),
}

/// The result of calling `class(*arguments)`, and what was assigned to it afterwards.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// `module.name`.
    pub class: String,
    /// The tuple of arguments. An index, because a pickle may use one tuple in many calls.
    pub arguments: Id,
    /// Items assigned by key.
    pub items: Vec<(Id, Id)>,
    /// The state that was set.
    pub state: Option<Id>,
}
