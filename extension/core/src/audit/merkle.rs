//! The tree over the leaves of a block, and the proof of one leaf: RFC 9162, section 2.1, with SHA-256.

use super::{Hash, hash};

/// The root of the tree; of no leaf, the hash of nothing.
#[must_use]
pub fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => hash(&[]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = halves(leaves);
            node(&root(left), &root(right))
        }
    }
}

/// The proof of the leaf at `index`: the hashes beside its way to the root, the lowest first.
#[must_use]
pub fn prove(leaves: &[Hash], index: usize) -> Vec<Hash> {
    if leaves.len() < 2 {
        return Vec::new();
    }
    let (left, right) = halves(leaves);
    let (mut path, beside) = match index.checked_sub(left.len()) {
        None => (prove(left, index), root(right)),
        Some(index) => (prove(right, index), root(left)),
    };
    path.push(beside);
    path
}

/// The root that a proof leads to, of a tree with so many leaves. `None` for a proof of another length.
#[must_use]
pub fn follow(leaf: Hash, index: u64, leaves: u64, path: &[Hash]) -> Option<Hash> {
    let (mut index, mut last) = (index, leaves.checked_sub(1)?);
    if index > last {
        return None;
    }
    let mut hash = leaf;
    for beside in path {
        if last == 0 {
            return None;
        }
        if index & 1 == 1 || index == last {
            hash = node(beside, &hash);
            // Levels on which the last node has nothing beside it.
            while index & 1 == 0 && index != 0 {
                (index, last) = (index >> 1, last >> 1);
            }
        } else {
            hash = node(&hash, beside);
        }
        (index, last) = (index >> 1, last >> 1);
    }
    (last == 0).then_some(hash)
}

fn node(left: &Hash, right: &Hash) -> Hash {
    hash(&[&[1], left, right])
}

/// The left half has the largest power of two that is less than the whole.
fn halves(leaves: &[Hash]) -> (&[Hash], &[Hash]) {
    leaves.split_at(leaves.len().next_power_of_two() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: u8) -> Vec<Hash> {
        (0..count).map(|number| hash(&[&[0, number]])).collect()
    }

    #[test]
    fn each_leaf_has_a_proof_and_no_other_place() {
        for count in 1..=40 {
            let leaves = leaves(count);
            let root = root(&leaves);
            for index in 0..leaves.len() {
                let path = prove(&leaves, index);
                for place in 0..leaves.len() + 2 {
                    let found = follow(leaves[index], place as u64, count.into(), &path) == Some(root);
                    assert_eq!(found, place == index, "leaf {index} of {count} at {place}");
                }
                let longer = [path.as_slice(), &[root]].concat();
                assert_ne!(follow(leaves[index], index as u64, count.into(), &longer), Some(root));
                if let Some((_, shorter)) = path.split_last() {
                    assert_ne!(follow(leaves[index], index as u64, count.into(), shorter), Some(root));
                }
            }
        }
    }

    #[test]
    fn the_root_is_that_of_the_rfc() {
        // Of "", and of seven leaves: ((01)(23))((45)6).
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(format!("{:02x?}", root(&[])).replace(['[', ',', ' ', ']'], ""), empty);
        let it = leaves(7);
        let left = node(&node(&it[0], &it[1]), &node(&it[2], &it[3]));
        assert_eq!(root(&it), node(&left, &node(&node(&it[4], &it[5]), &it[6])));
    }
}
