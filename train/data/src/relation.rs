//! Where two objects of a composite stand.

use serde::{Deserialize, Serialize};

/// Where the object that is named first stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Relation {
    /// To the left of the second.
    #[serde(rename = "to the left of")]
    Left,
    /// To the right of the second.
    #[serde(rename = "to the right of")]
    Right,
    /// Above the second.
    #[serde(rename = "above")]
    Above,
    /// Below the second.
    #[serde(rename = "below")]
    Below,
}

impl Relation {
    /// All relations.
    pub const ALL: [Self; 4] = [Self::Left, Self::Right, Self::Above, Self::Below];

    /// How captions and records say it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Left => "to the left of",
            Self::Right => "to the right of",
            Self::Above => "above",
            Self::Below => "below",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_say_a_relation_in_the_words_of_captions() {
        for relation in Relation::ALL {
            assert_eq!(serde_json::to_value(relation).expect("text"), relation.words());
        }
    }
}
