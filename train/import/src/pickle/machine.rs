//! The stack machine of Python's `pickle`: opcodes operate on a stack with marks, and on a memo. It creates values and records
//! calls without executing them.

use std::collections::HashMap;

use super::classes::is_harmless;
use super::value::{Id, MAX_VALUES, Object, PickleError, Value};

/// See the module.
pub struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<usize, Id>,
}

impl<'a> Machine<'a> {
    /// A machine at the start of a pickle.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() }
    }

    /// Runs to the end of the pickle. Returns the values, the root, and the length in bytes.
    ///
    /// # Errors
    /// See [`PickleError`].
    pub fn run(mut self) -> Result<(Vec<Value>, Id, usize), PickleError> {
        let root = self.steps()?;
        Ok((self.values, root, self.at))
    }

    fn steps(&mut self) -> Result<Id, PickleError> {
        loop {
            let at = self.at;
            let [opcode] = self.array()?;
            match opcode {
                // PROTO and FRAME carry no information that is needed.
                0x80 => drop(self.array::<1>()?),
                0x95 => drop(self.array::<8>()?),
                b'.' => return self.pop(),
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b'1' => drop(self.pop_to_mark()?),
                b'2' => {
                    let id = self.stack.last().copied().ok_or(self.malformed("a value to duplicate"))?;
                    self.stack.push(id);
                }
                b'N' => self.push(Value::None)?,
                0x88 => self.push(Value::Bool(true))?,
                0x89 => self.push(Value::Bool(false))?,
                b'J' => {
                    let int = i32::from_le_bytes(self.array()?);
                    self.push(Value::Int(int.into()))?;
                }
                b'K' | b'M' => {
                    let int = self.length(if opcode == b'K' { 1 } else { 2 })?;
                    self.push(Value::Int(int as i64))?;
                }
                0x8a | 0x8b => {
                    let length = self.length(if opcode == 0x8a { 1 } else { 4 })?;
                    let int = self.long(length)?;
                    self.push(int)?;
                }
                b'G' => {
                    let float = f64::from_be_bytes(self.array()?);
                    self.push(Value::Float(float))?;
                }
                b'X' | 0x8c | 0x8d => {
                    let length = self.length(match opcode {
                        0x8c => 1,
                        b'X' => 4,
                        _ => 8,
                    })?;
                    let text = self.utf8(length)?;
                    self.push(Value::Text(text))?;
                }
                // Bytes, strings of Python 2 and bytearrays.
                b'C' | b'U' | b'B' | b'T' | 0x8e | 0x96 => {
                    let length = self.length(match opcode {
                        b'C' | b'U' => 1,
                        b'B' | b'T' => 4,
                        _ => 8,
                    })?;
                    let bytes = self.slice(length)?.to_vec();
                    self.push(Value::Bytes(bytes))?;
                }
                // A set is read as the list of its elements.
                b']' | 0x8f => self.push(Value::List(Vec::new()))?,
                b'l' | 0x91 => {
                    let ids = self.pop_to_mark()?;
                    self.push(Value::List(ids))?;
                }
                b'd' => {
                    let ids = self.pop_to_mark()?;
                    self.push(Value::Dict(Vec::new()))?;
                    self.assign(&ids)?;
                }
                b'}' => self.push(Value::Dict(Vec::new()))?,
                b')' => self.push(Value::Tuple(Vec::new()))?,
                b't' => {
                    let ids = self.pop_to_mark()?;
                    self.push(Value::Tuple(ids))?;
                }
                0x85..=0x87 => {
                    let ids = self.pop_many(usize::from(opcode - 0x84))?;
                    self.push(Value::Tuple(ids))?;
                }
                b'a' => {
                    let id = self.pop()?;
                    self.append(&[id])?;
                }
                b'e' | 0x90 => {
                    let ids = self.pop_to_mark()?;
                    self.append(&ids)?;
                }
                b's' => {
                    let ids = self.pop_many(2)?;
                    self.assign(&ids)?;
                }
                b'u' => {
                    let ids = self.pop_to_mark()?;
                    self.assign(&ids)?;
                }
                b'q' | b'r' => {
                    let place = self.length(if opcode == b'q' { 1 } else { 4 })?;
                    self.memoize(place)?;
                }
                0x94 => self.memoize(self.memo.len())?,
                b'h' | b'j' => {
                    let place = self.length(if opcode == b'h' { 1 } else { 4 })?;
                    let id = self.memo.get(&place).copied().ok_or(self.malformed("a memoized value"))?;
                    self.stack.push(id);
                }
                b'c' => {
                    let class = format!("{}.{}", self.line()?, self.line()?);
                    self.class(class)?;
                }
                0x93 => {
                    let [module, name] = self.pop_array()?;
                    let class = match (&self.values[module.0], &self.values[name.0]) {
                        (Value::Text(module), Value::Text(name)) => format!("{module}.{name}"),
                        _ => return Err(self.malformed("the names of a module and a class")),
                    };
                    self.class(class)?;
                }
                // REDUCE calls a function, NEWOBJ creates an object: both are recorded, neither is executed.
                b'R' | 0x81 => {
                    let [callee, arguments] = self.pop_array()?;
                    self.record_call(callee, arguments)?;
                }
                // NEWOBJ_EX: keyword arguments are not needed.
                0x92 => {
                    let [class, arguments, _] = self.pop_array()?;
                    self.record_call(class, arguments)?;
                }
                b'b' => {
                    let state = self.pop()?;
                    match self.top()? {
                        Value::Object(object) => object.state = Some(state),
                        _ => return Err(self.malformed("an object to give a state to")),
                    }
                }
                b'Q' => {
                    let id = self.pop()?;
                    self.push(Value::Persistent(id))?;
                }
                _ => return Err(PickleError::UnknownOpcode { opcode, at }),
            }
        }
    }

    fn malformed(&self, expected: &'static str) -> PickleError {
        PickleError::Malformed { at: self.at, expected }
    }

    fn slice(&mut self, length: usize) -> Result<&[u8], PickleError> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.bytes.len());
        let slice = &self.bytes[self.at..end.ok_or(self.malformed("more bytes (the file is truncated)"))?];
        self.at += length;
        Ok(slice)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let mut array = [0; N];
        array.copy_from_slice(self.slice(N)?);
        Ok(array)
    }

    /// An unsigned integer of 1, 2, 4 or 8 bytes.
    fn length(&mut self, bytes: usize) -> Result<usize, PickleError> {
        Ok(self.slice(bytes)?.iter().rev().fold(0, |number, &byte| number << 8 | usize::from(byte)))
    }

    /// A signed integer. No weights need one of more than 8 bytes, so its bytes are kept.
    fn long(&mut self, length: usize) -> Result<Value, PickleError> {
        let bytes = self.slice(length)?;
        let fill = if bytes.last().is_some_and(|last| last & 0x80 != 0) { 0xff } else { 0 };
        let mut wide = [fill; 8];
        let Some(low) = wide.get_mut(..length) else { return Ok(Value::Bytes(bytes.to_vec())) };
        low.copy_from_slice(bytes);
        Ok(Value::Int(i64::from_le_bytes(wide)))
    }

    fn utf8(&mut self, length: usize) -> Result<String, PickleError> {
        let text = str::from_utf8(self.slice(length)?).map(str::to_owned);
        text.map_err(|_| self.malformed("a string in UTF-8"))
    }

    /// A string up to a line break.
    fn line(&mut self) -> Result<String, PickleError> {
        let length = self.bytes[self.at..].iter().position(|&byte| byte == b'\n');
        let line = self.utf8(length.ok_or(self.malformed("a line break"))?)?;
        self.at += 1;
        Ok(line)
    }

    fn push(&mut self, value: Value) -> Result<(), PickleError> {
        if self.values.len() == MAX_VALUES {
            return Err(PickleError::TooLarge);
        }
        self.stack.push(Id(self.values.len()));
        self.values.push(value);
        Ok(())
    }

    /// Height below which the stack belongs to the last open mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Id, PickleError> {
        let [id] = self.pop_array()?;
        Ok(id)
    }

    fn pop_array<const N: usize>(&mut self) -> Result<[Id; N], PickleError> {
        let mut array = [Id(0); N];
        array.copy_from_slice(&self.pop_many(N)?);
        Ok(array)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, PickleError> {
        let height = self.stack.len().checked_sub(count).filter(|&height| height >= self.floor());
        Ok(self.stack.split_off(height.ok_or(self.malformed("more values on the stack"))?))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, PickleError> {
        let height = self.marks.pop().ok_or(self.malformed("a mark on the stack"))?;
        Ok(self.stack.split_off(height))
    }

    fn top(&mut self) -> Result<&mut Value, PickleError> {
        match self.stack.get(self.floor()..).and_then(<[Id]>::last) {
            Some(id) => Ok(&mut self.values[id.0]),
            None => Err(self.malformed("a value on the stack")),
        }
    }

    fn append(&mut self, ids: &[Id]) -> Result<(), PickleError> {
        match self.top()? {
            Value::List(list) => list.extend(ids),
            // A class derived from list or set. Its elements are not weights.
            Value::Object(_) => {}
            _ => return Err(self.malformed("a list to append to")),
        }
        Ok(())
    }

    fn assign(&mut self, ids: &[Id]) -> Result<(), PickleError> {
        let (pairs, rest) = ids.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.malformed("a value for each key"));
        }
        match self.top()? {
            Value::Dict(items) | Value::Object(Object { items, .. }) => {
                items.extend(pairs.iter().map(|&[key, value]| (key, value)));
            }
            _ => return Err(self.malformed("a dictionary to assign to")),
        }
        Ok(())
    }

    fn memoize(&mut self, place: usize) -> Result<(), PickleError> {
        let id = self.stack.last().copied().ok_or(self.malformed("a value to memoize"))?;
        self.memo.insert(place, id);
        Ok(())
    }

    fn class(&mut self, class: String) -> Result<(), PickleError> {
        if is_harmless(&class) {
            self.push(Value::Class(class))
        } else {
            Err(PickleError::UnknownClass(class))
        }
    }

    fn record_call(&mut self, callee: Id, arguments: Id) -> Result<(), PickleError> {
        match (self.callee(callee), &self.values[arguments.0]) {
            (Some(class), Value::Tuple(_)) => {
                let class = class.to_owned();
                self.push(Value::Object(Object { class, arguments, items: Vec::new(), state: None }))
            }
            _ => Err(self.malformed("a class and a tuple of arguments")),
        }
    }

    /// The name of a class. Files written before PyTorch 1.6 store a module's class and its source code outside the pickle at its
    /// first use: `("module", class, file, source)`.
    fn callee(&self, id: Id) -> Option<&str> {
        let named = |id: Id| match &self.values[id.0] {
            Value::Class(class) => Some(class.as_str()),
            _ => None,
        };
        let Value::Persistent(parts) = self.values[id.0] else { return named(id) };
        match &self.values[parts.0] {
            Value::Tuple(parts) => named(*parts.get(1)?),
            _ => None,
        }
    }
}
