//! Stops a run between two updates.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use dalle_data::log_line;

/// Exit status of a program ended by Ctrl-C: 128 plus the number of SIGINT.
const INTERRUPTED: i32 = 128 + 2;

/// A flag that makes a run save and stop after the current update.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// The flag that signals raise. The first call installs the handlers, and later ones return the same flag: once it is raised, each
    /// training that a program begins stops after its first update.
    ///
    /// Of Ctrl-C, SIGTERM and SIGHUP the second signal ends the program immediately. Schedulers send SIGUSR1 some time before they end
    /// a job (`sbatch --signal=USR1@600`).
    ///
    /// # Errors
    /// The signal handlers cannot be installed.
    pub fn listen() -> Result<Self> {
        static LISTENING: Mutex<Option<Interrupt>> = Mutex::new(None);
        // Several trainings of one command share the flag: a signal can only be listened for once.
        let mut listening = LISTENING.lock().unwrap_or_else(PoisonError::into_inner);
        match &*listening {
            Some(interrupt) => Ok(interrupt.clone()),
            None => Ok(listening.insert(Self::install()?).clone()),
        }
    }

    fn install() -> Result<Self> {
        let interrupt = Self::default();
        let raised = interrupt.clone();
        ctrlc::set_handler(move || {
            if raised.0.swap(true, Ordering::Relaxed) {
                // Exits without running destructors, which would unload LibTorch during the update in progress.
                signal_hook::low_level::exit(INTERRUPTED);
            }
            log_line(format_args!(
                "\nsaving after the current update; press Ctrl-C again to stop without saving"
            ));
        })
        .context("cannot listen for Ctrl-C")?;
        #[cfg(unix)]
        signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&interrupt.0))
            .context("cannot listen for SIGUSR1")?;
        Ok(interrupt)
    }

    /// Makes the run stop.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the run has to stop.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
