//! Tensors as arrays of f32, converted from several element types and from strided views.

/// Maximum number of dimensions of a tensor.
const MAX_DIMENSIONS: usize = 8;

/// A contiguous tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// The shape.
    pub shape: Vec<usize>,
    /// The values in row-major order.
    pub values: Vec<f32>,
}

/// The element type of a storage. Integers occur only as counters, such as BatchNorm's `num_batches_tracked`, and as masks.
#[derive(Clone, Copy)]
pub enum ElementType {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
}

impl ElementType {
    /// The element type of a PyTorch storage class.
    pub fn of_storage(class: &str) -> Option<Self> {
        match class {
            "torch.DoubleStorage" => Some(Self::F64),
            "torch.FloatStorage" => Some(Self::F32),
            "torch.HalfStorage" => Some(Self::F16),
            "torch.BFloat16Storage" => Some(Self::Bf16),
            "torch.LongStorage" => Some(Self::I64),
            "torch.IntStorage" => Some(Self::I32),
            "torch.ShortStorage" => Some(Self::I16),
            "torch.CharStorage" => Some(Self::I8),
            "torch.ByteStorage" | "torch.BoolStorage" => Some(Self::U8),
            _ => None,
        }
    }

    /// The element type of a NumPy dtype's name.
    pub fn of_numpy(name: &str) -> Option<Self> {
        match name {
            "f8" => Some(Self::F64),
            "f4" => Some(Self::F32),
            "f2" => Some(Self::F16),
            "i8" => Some(Self::I64),
            "i4" => Some(Self::I32),
            "i2" => Some(Self::I16),
            "i1" => Some(Self::I8),
            "u1" | "b1" => Some(Self::U8),
            _ => None,
        }
    }

    /// Bytes per element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 => 1,
        }
    }

    /// Converts little-endian elements to f32.
    pub fn read(self, bytes: &[u8]) -> Vec<f32> {
        fn values<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            bytes.as_chunks::<N>().0.iter().map(|&bytes| read(bytes)).collect()
        }
        match self {
            Self::F64 => values(bytes, |bytes| f64::from_le_bytes(bytes) as f32),
            Self::F32 => values(bytes, f32::from_le_bytes),
            Self::F16 => values(bytes, |bytes| half::f16::from_le_bytes(bytes).to_f32()),
            Self::Bf16 => values(bytes, |bytes| half::bf16::from_le_bytes(bytes).to_f32()),
            Self::I64 => values(bytes, |bytes| i64::from_le_bytes(bytes) as f32),
            Self::I32 => values(bytes, |bytes| i32::from_le_bytes(bytes) as f32),
            Self::I16 => values(bytes, |bytes| i16::from_le_bytes(bytes).into()),
            Self::I8 => values(bytes, |bytes| i8::from_le_bytes(bytes).into()),
            Self::U8 => values(bytes, |[byte]| byte.into()),
        }
    }
}

/// The values of a strided view in row-major order, or `None` if it exceeds its storage or has more values than it.
pub fn gather(storage: &[f32], offset: usize, shape: &[usize], stride: &[usize]) -> Option<Vec<f32>> {
    let count = shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size))?;
    if shape.len() != stride.len() || shape.len() > MAX_DIMENSIONS || count > storage.len() {
        return None;
    }
    if count == 0 {
        return Some(Vec::new());
    }
    let mut indices = vec![offset];
    for (&size, &stride) in shape.iter().zip(stride) {
        let reach = stride.checked_mul(size - 1)?;
        indices.iter().max()?.checked_add(reach)?;
        indices =
            indices.iter().flat_map(|start| (0..size).map(move |index| start + index * stride)).collect();
    }
    indices.into_iter().map(|index| storage.get(index).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_read_by_its_strides() {
        let storage: Vec<f32> = (0..12u8).map(f32::from).collect();
        assert_eq!(gather(&storage, 1, &[2, 3], &[6, 1]), Some(vec![1.0, 2.0, 3.0, 7.0, 8.0, 9.0]));
        assert_eq!(gather(&storage, 0, &[3, 2], &[1, 3]), Some(vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0]));
        assert_eq!(gather(&storage, 5, &[], &[]), Some(vec![5.0]));
        assert_eq!(gather(&storage, 3, &[0], &[1]), Some(vec![]));
    }

    #[test]
    fn a_view_that_exceeds_its_storage_is_refused() {
        let storage = [0.0; 4];
        assert_eq!(gather(&storage, 2, &[3], &[1]), None);
        assert_eq!(gather(&storage, 0, &[5], &[0]), None);
        assert_eq!(gather(&storage, usize::MAX, &[2], &[1]), None);
        assert_eq!(gather(&storage, 0, &[2], &[usize::MAX]), None);
        assert_eq!(gather(&storage, 0, &[usize::MAX, usize::MAX], &[1, 1]), None);
        assert_eq!(gather(&storage, 0, &[2], &[]), None);
        assert_eq!(gather(&storage, 0, &[1; 9], &[1; 9]), None, "dimensions of size 1 cost time too");
    }
}
