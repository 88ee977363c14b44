//! Signals.

use std::process::Command;

use crate::fixture::{Model, Server, exit};

#[cfg(unix)]
#[tokio::test]
async fn ends_well_when_told_to() {
    let model = Model::new();
    for signal in ["-TERM", "-INT"] {
        let mut server = Server::start(model.folder.path());
        server.until_ready().await;
        let told = Command::new("kill").args([signal, &server.process.id().to_string()]).status().unwrap();
        assert!(told.success());
        assert_eq!(exit(&mut server.process).code(), Some(0), "{signal}");
    }
}
