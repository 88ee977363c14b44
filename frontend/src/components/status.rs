//! Where the generation stands, in words.

use dalle_shared::WorkerPart;

use crate::format;
use crate::generation::Tally;
use crate::phase::Phase;
use crate::place::Place;
use crate::prior::PriorState;

/// What the words depend on.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// Where the page stands.
    pub phase: Phase,
    /// The connection is lost and is being tried again.
    pub reconnecting: bool,
    /// The decoder can decode.
    pub decoder_ready: bool,
    /// Where images are sampled.
    pub place: Place,
    /// How far the prior in this browser is.
    pub prior: PriorState,
    /// Numbers of the generation.
    pub tally: Tally,
    /// Images shown large.
    pub shown: usize,
    /// Images sampled.
    pub sampled: usize,
}

/// The line above the images.
pub fn line(situation: &Situation) -> String {
    let Situation { phase, tally: Tally { tokens, total, .. }, shown, sampled, .. } = *situation;
    let of = || format!("{} of {} tokens", format::count(tokens as u64), format::count(total as u64));
    match phase {
        _ if situation.reconnecting => "Connection lost. Reconnecting…".to_owned(),
        Phase::Loading => "Loading the model…".to_owned(),
        Phase::Idle => "Ready".to_owned(),
        Phase::Queued => queued(situation.place, situation.prior, situation.tally.before),
        Phase::Running if tokens == total && shown < sampled => "Choosing the best…".to_owned(),
        Phase::Running => of(),
        Phase::Decoding if !situation.decoder_ready => {
            "All tokens are here. Waiting for the decoder…".to_owned()
        }
        Phase::Decoding => "Decoding the last pixels…".to_owned(),
        Phase::Finished if shown < sampled && shown == 1 => format!("Done: the best of {sampled}"),
        Phase::Finished if shown < sampled => format!("Done: the best {shown} of {sampled}"),
        Phase::Finished => format!("Done: {}", format::plural(shown, "image")),
        Phase::Cancelled if tokens == 0 => "Stopped".to_owned(),
        Phase::Cancelled => format!("Stopped at {}", of()),
        Phase::Failed if tokens == 0 => "Not started".to_owned(),
        Phase::Failed => format!("Ended at {}", of()),
    }
}

/// What is waited for before the first token.
fn queued(place: Place, prior: PriorState, before: Option<usize>) -> String {
    match (place, prior) {
        (Place::Server, _) => match before {
            None => "Waiting for the server…".to_owned(),
            Some(0) => "Waiting for the server: yours is next…".to_owned(),
            Some(before) => {
                format!("Waiting for the server: {} before yours…", format::plural(before, "request"))
            }
        },
        (Place::Browser, PriorState::Loading { part: WorkerPart::Weights, loaded, total: Some(total) }) => {
            format!("Loading the prior: {} of {}…", format::bytes(loaded), format::bytes(total))
        }
        (Place::Browser, PriorState::Loading { .. }) => "Loading the prior…".to_owned(),
        (Place::Browser, _) => "Reading the caption…".to_owned(),
    }
}

/// What a screen reader says: each change of phase, and each quarter of the way.
pub fn announcement(situation: &Situation) -> String {
    let Tally { tokens, total, .. } = situation.tally;
    match situation.phase {
        Phase::Running if !situation.reconnecting && total > 0 => match tokens * 4 / total {
            0 => "Generating".to_owned(),
            quarters => format!("{} percent", quarters * 25),
        },
        Phase::Queued => queued(situation.place, PriorState::Absent, situation.tally.before),
        _ => line(situation),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(tokens: usize, total: usize) -> Situation {
        let tally = Tally { tokens, total, ..Tally::default() };
        Situation {
            phase: Phase::Running,
            reconnecting: false,
            decoder_ready: true,
            place: Place::Server,
            prior: PriorState::Absent,
            tally,
            shown: 1,
            sampled: 1,
        }
    }

    #[test]
    fn a_screen_reader_hears_five_things_in_a_whole_run() {
        let mut heard: Vec<String> = (0..=1024).map(|tokens| announcement(&running(tokens, 1024))).collect();
        heard.dedup();
        assert_eq!(heard, ["Generating", "25 percent", "50 percent", "75 percent", "100 percent"]);
    }

    #[test]
    fn a_lost_connection_is_said_whatever_the_phase() {
        let lost = Situation { reconnecting: true, ..running(3, 4) };
        assert!(line(&lost).contains("lost"));
        assert!(announcement(&lost).contains("lost"));
        assert_eq!(line(&running(3, 4)), "3 of 4 tokens");
    }

    #[test]
    fn the_place_in_the_queue_is_said() {
        let queued = |before| {
            let tally = Tally { before, ..Tally::default() };
            line(&Situation { phase: Phase::Queued, tally, ..running(0, 4) })
        };
        assert_eq!(queued(None), "Waiting for the server…");
        assert_eq!(queued(Some(0)), "Waiting for the server: yours is next…");
        assert_eq!(queued(Some(1)), "Waiting for the server: 1 request before yours…");
        assert_eq!(queued(Some(11)), "Waiting for the server: 11 requests before yours…");
    }

    #[test]
    fn the_choice_of_the_best_is_said_when_only_scores_are_missing() {
        let best_of = Situation { sampled: 8, ..running(32, 32) };
        assert_eq!(line(&best_of), "Choosing the best…");
        assert_eq!(line(&Situation { phase: Phase::Finished, ..best_of }), "Done: the best of 8");
        assert_eq!(line(&Situation { phase: Phase::Finished, shown: 2, ..running(8, 8) }), "Done: 2 images");
    }
}
