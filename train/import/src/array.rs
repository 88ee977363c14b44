//! Tensors as arrays of f32: stored numbers of several types, and strided views of them.

/// Most dimensions of a tensor.
const MAX_DIMENSIONS: usize = 8;

/// A tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, the last dimension contiguous.
    pub values: Vec<f32>,
}

/// A type of stored numbers. Integers only count (the batches that a BatchNorm has seen).
#[derive(Clone, Copy)]
pub enum Number {
    F64,
    F32,
    F16,
    Bf16,
    I64,
}

impl Number {
    /// What a storage of this class holds.
    pub fn of_storage(class: &str) -> Option<Self> {
        match class {
            "torch.DoubleStorage" => Some(Self::F64),
            "torch.FloatStorage" => Some(Self::F32),
            "torch.HalfStorage" => Some(Self::F16),
            "torch.BFloat16Storage" => Some(Self::Bf16),
            "torch.LongStorage" => Some(Self::I64),
            _ => None,
        }
    }

    /// Bytes of one.
    pub fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Little-endian values as f32.
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
        }
    }
}

/// The values of a strided view, in the order of its indices; none where it leaves its storage or is larger than it.
pub fn gather(storage: &[f32], offset: usize, shape: &[usize], stride: &[usize]) -> Option<Vec<f32>> {
    let count = shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size))?;
    if shape.len() != stride.len() || shape.len() > MAX_DIMENSIONS || count > storage.len() {
        return None;
    }
    if count == 0 {
        return Some(Vec::new());
    }
    let mut places = vec![offset];
    for (&size, &stride) in shape.iter().zip(stride) {
        let reach = stride.checked_mul(size - 1)?;
        places.iter().max()?.checked_add(reach)?;
        places = places.iter().flat_map(|place| (0..size).map(move |index| place + index * stride)).collect();
    }
    places.into_iter().map(|place| storage.get(place).copied()).collect()
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
    fn a_view_that_leaves_its_storage_or_outgrows_it_is_refused() {
        let storage = [0.0; 4];
        assert_eq!(gather(&storage, 2, &[3], &[1]), None);
        assert_eq!(gather(&storage, 0, &[5], &[0]), None);
        assert_eq!(gather(&storage, usize::MAX, &[2], &[1]), None);
        assert_eq!(gather(&storage, 0, &[2], &[usize::MAX]), None);
        assert_eq!(gather(&storage, 0, &[usize::MAX, usize::MAX], &[1, 1]), None);
        assert_eq!(gather(&storage, 0, &[2], &[]), None);
        assert_eq!(gather(&storage, 0, &[1; 9], &[1; 9]), None, "dimensions of 1 cost a walk each");
    }
}
