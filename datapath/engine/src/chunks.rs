//! An array of which a copy with a change shares all but one chunk.

use std::sync::Arc;

/// Values by index, in chunks of `N`.
#[derive(Clone, Debug)]
pub struct Chunks<T, const N: usize> {
    chunks: Arc<[Arc<[T]>]>,
}

impl<T, const N: usize> Default for Chunks<T, N> {
    fn default() -> Chunks<T, N> {
        Chunks { chunks: Arc::new([]) }
    }
}

impl<T: Clone + Default, const N: usize> Chunks<T, N> {
    /// The value at an index; `None` behind the last chunk.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.chunks.get(index / N)?.get(index % N)
    }

    /// The same to be changed: its chunk is copied if others have it too. Chunks
    /// up to it are made where there are none.
    pub fn get_mut(&mut self, index: usize) -> &mut T {
        let have = self.chunks.len();
        if index / N >= have {
            let empty: Arc<[T]> = vec![T::default(); N].into();
            let missing = std::iter::repeat_n(empty, index / N + 1 - have);
            self.chunks = self.chunks.iter().cloned().chain(missing).collect();
        }
        let chunk = &mut Arc::make_mut(&mut self.chunks)[index / N];
        &mut Arc::make_mut(chunk)[index % N]
    }

    /// How many chunks two arrays have in common, and of how many.
    pub fn shared_with(&self, other: &Chunks<T, N>) -> (usize, usize) {
        let pairs = self.chunks.iter().zip(&*other.chunks);
        (pairs.filter(|(a, b)| Arc::ptr_eq(a, b)).count(), self.chunks.len().max(other.chunks.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_copies_one_chunk_and_leaves_the_original() {
        let mut all = Chunks::<u32, 4>::default();
        assert_eq!(all.get(0), None);
        (0..10).for_each(|n| *all.get_mut(n) = n as u32 + 1);
        let before = all.clone();
        *all.get_mut(5) = 60;
        assert_eq!((before.get(5), all.get(5)), (Some(&6), Some(&60)));
        assert_eq!(all.shared_with(&before), (2, 3));
        let values: Vec<u32> = (0..12).filter_map(|n| all.get(n).copied()).collect();
        assert_eq!(values, [1, 2, 3, 4, 5, 60, 7, 8, 9, 10, 0, 0]);
        assert_eq!((all.get(11), all.get(12)), (Some(&0), None));
        *all.get_mut(20) = 1;
        assert_eq!((all.get(13), all.get(20), all.get(24)), (Some(&0), Some(&1), None));
        assert_eq!(all.shared_with(&before), (2, 6));
    }
}
