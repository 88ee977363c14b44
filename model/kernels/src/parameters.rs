//! Named parameters, one after the other in one slice.

/// A parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its path in the module of `dalle-model`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Where it begins among all parameters.
    pub offset: usize,
}

impl Parameter {
    /// Values.
    pub fn length(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A list of parameters in the making.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    pub parameters: Vec<Parameter>,
}

impl Builder {
    /// Adds a parameter. Returns where it begins.
    pub fn add(&mut self, name: String, shape: Vec<usize>) -> usize {
        let offset = self.parameters.last().map_or(0, |last| last.offset + last.length());
        self.parameters.push(Parameter { name, shape, offset });
        offset
    }
}
