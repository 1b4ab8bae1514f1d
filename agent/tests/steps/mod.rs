//! Running one step with a driver and collecting what it does.
#![allow(dead_code)] // each test binary uses its part

use pocketci_agent::container::{Driver, DriverError, OutputStream, StepExit, StepSpec};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What became of a step.
pub struct Run {
    pub exit: Result<StepExit, DriverError>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

pub fn shell(script: &str) -> StepSpec {
    StepSpec {
        name: "test".into(),
        path: "sh".into(),
        args: vec!["-c".into(), script.into()],
        ..StepSpec::default()
    }
}

pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "waited for: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Run {
    pub async fn of(driver: &dyn Driver, spec: StepSpec) -> Self {
        Self::with(driver, spec, Duration::ZERO, false).await
    }

    /// With a reader that dawdles, so that the process is held back.
    pub async fn slowly(driver: &dyn Driver, spec: StepSpec) -> Self {
        Self::with(driver, spec, Duration::from_millis(1), false).await
    }

    /// Stopped after its first output.
    pub async fn stopped(driver: &dyn Driver, spec: StepSpec) -> Self {
        Self::with(driver, spec, Duration::ZERO, true).await
    }

    async fn with(driver: &dyn Driver, spec: StepSpec, pause: Duration, stop_early: bool) -> Self {
        let (sender, mut pieces) = mpsc::channel(2);
        let stop = CancellationToken::new();
        let running = driver.run(spec, sender, stop.clone());
        let reading = async {
            let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
            while let Some((stream, bytes)) = pieces.recv().await {
                assert!(!bytes.is_empty());
                match stream {
                    OutputStream::Stdout => stdout.extend_from_slice(&bytes),
                    OutputStream::Stderr => stderr.extend_from_slice(&bytes),
                }
                if stop_early {
                    stop.cancel();
                }
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
            }
            (stdout, stderr)
        };
        let both = async { tokio::join!(running, reading) };
        let (exit, (stdout, stderr)) = tokio::time::timeout(Duration::from_secs(60), both)
            .await
            .expect("the step ends");
        Self {
            exit,
            stdout,
            stderr,
        }
    }

    /// Drops the step after its first output, which is returned.
    pub async fn dropped(driver: &dyn Driver, spec: StepSpec) -> String {
        let (sender, mut pieces) = mpsc::channel(2);
        let running = driver.run(spec, sender, CancellationToken::new());
        tokio::select! {
            ended = running => panic!("it ended: {ended:?}"),
            piece = pieces.recv() => String::from_utf8(piece.expect("output").1.to_vec()).unwrap(),
        }
    }
}
