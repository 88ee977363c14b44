use super::*;

#[test]
fn relations_are_said_in_words_that_agree() {
    let left = pair_captions(Relation::Left, "a dog", "a cat");
    let right = pair_captions(Relation::Right, "a cat", "a dog");
    // "a dog to the left of a cat" and "a cat to the right of a dog" are one scene.
    for caption in [
        "a dog to the left of a cat",
        "a cat to the right of a dog",
        "a dog on the left and a cat on the right",
    ] {
        assert!(left.contains(&caption.to_owned()) && right.contains(&caption.to_owned()), "{caption}");
    }
    let below = pair_captions(Relation::Below, "a dog", "a cat");
    assert_eq!(below[0], "a dog below a cat");
    assert!(
        below.contains(&"a cat above a dog".to_owned()) && below.contains(&"a dog under a cat".to_owned())
    );
}

#[test]
fn places_lie_inside_the_image_and_apart() {
    for size in [32, 64, 100, 128, 256] {
        for (count, stacked) in [(2, false), (2, true), (3, false), (4, false)] {
            let places = places(size, count, stacked);
            assert_eq!(places.len(), count as usize);
            for (index, a) in places.iter().enumerate() {
                assert!(a.x + a.width <= size && a.y + a.height <= size, "{size} {a:?}");
                assert!(a.width.max(a.height) * 32 >= size * 14, "{size} {a:?}");
                for b in &places[index + 1..] {
                    let beside = a.x + a.width <= b.x || b.x + b.width <= a.x;
                    assert!(beside || a.y + a.height <= b.y || b.y + b.height <= a.y, "{a:?} {b:?}");
                }
            }
        }
    }
}

#[test]
fn only_names_without_a_relation_of_their_own_are_combined() {
    let names =
        ["a clock showing one", "flowers", "a red apple", "a cup of coffee", "a small plant", "a dog"];
    let names = names.map(str::to_owned);
    assert_eq!(usable(&names).collect::<Vec<_>>(), ["a red apple", "a cup of coffee", "a dog"]);
}
