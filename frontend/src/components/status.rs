//! Where the generation stands, in words.

use crate::format;
use crate::generation::Tally;
use crate::phase::Phase;

/// The line above the pictures.
pub fn line(phase: Phase, reconnecting: bool, decoder_ready: bool, tally: &Tally) -> String {
    let Tally { tokens, total, .. } = *tally;
    let of = || format!("{} of {} tokens", format::count(tokens as u64), format::count(total as u64));
    match phase {
        _ if reconnecting => "Connection lost. Trying to get it back…".to_owned(),
        Phase::Loading => "Looking for the server…".to_owned(),
        Phase::Idle => "Ready".to_owned(),
        Phase::Queued => "Waiting for the engine…".to_owned(),
        Phase::Running => of(),
        Phase::Decoding if !decoder_ready => "All tokens are here. Waiting for the decoder…".to_owned(),
        Phase::Decoding => "Drawing the last pixels…".to_owned(),
        Phase::Finished => format!("Done: {}", format::plural(tokens, "token")),
        Phase::Cancelled if tokens == 0 => "Stopped".to_owned(),
        Phase::Cancelled => format!("Stopped at {}", of()),
        Phase::Failed if tokens == 0 => "Not started".to_owned(),
        Phase::Failed => format!("Ended at {}", of()),
    }
}

/// What a screen reader is told: each change of phase, and each quarter of the way.
pub fn announcement(phase: Phase, reconnecting: bool, decoder_ready: bool, tally: &Tally) -> String {
    match phase {
        Phase::Running if !reconnecting && tally.total > 0 => match tally.tokens * 4 / tally.total {
            0 => "Drawing".to_owned(),
            quarters => format!("{} percent", quarters * 25),
        },
        _ => line(phase, reconnecting, decoder_ready, tally),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_reader_hears_five_things_in_a_whole_run() {
        let mut heard: Vec<String> = (0..=1024)
            .map(|tokens| {
                announcement(Phase::Running, false, true, &Tally { tokens, total: 1024, ..Tally::default() })
            })
            .collect();
        heard.dedup();
        assert_eq!(heard, ["Drawing", "25 percent", "50 percent", "75 percent", "100 percent"]);
    }

    #[test]
    fn a_lost_connection_is_said_whatever_the_phase() {
        let tally = Tally { tokens: 3, total: 4, ..Tally::default() };
        assert!(line(Phase::Running, true, true, &tally).contains("lost"));
        assert!(announcement(Phase::Running, true, true, &tally).contains("lost"));
        assert_eq!(line(Phase::Running, false, true, &tally), "3 of 4 tokens");
    }
}
