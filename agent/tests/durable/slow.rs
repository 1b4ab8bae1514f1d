//! Drivers that take their time: what is stopped, lost or gone meanwhile.

use super::*;

/// A driver whose sandboxes take their time to start.
#[derive(Default)]
struct Slow {
    starting: Notify,
    closed: Arc<Notify>,
}

struct Kept(Arc<Notify>);

#[async_trait]
impl Sandbox for Kept {
    async fn exec(
        &self,
        _: StepSpec,
        _: mpsc::Sender<Output>,
        _: CancellationToken,
    ) -> Result<StepExit, DriverError> {
        Ok(StepExit::Stopped)
    }
    async fn close(&self) {
        self.0.notify_one();
    }
}

#[async_trait]
impl Driver for Slow {
    fn name(&self) -> DriverName {
        DriverName::Native
    }
    async fn run(
        &self,
        _: StepSpec,
        _: mpsc::Sender<Output>,
        _: CancellationToken,
    ) -> Result<StepExit, DriverError> {
        Ok(StepExit::Stopped)
    }
    async fn create_volume(
        &self,
        _: &str,
        _: BTreeMap<String, String>,
    ) -> Result<Volume, DriverError> {
        Err(DriverError::Invalid("no volumes".into()))
    }
    async fn has_volume(&self, _: &Volume) -> bool {
        false
    }
    async fn remove_volume(&self, _: &Volume) {}
    async fn read_files(
        &self,
        _: &Volume,
        _: &[String],
    ) -> Result<BTreeMap<String, Bytes>, DriverError> {
        Ok(BTreeMap::new())
    }
    async fn start_sandbox(&self, _: StepSpec) -> Result<Arc<dyn Sandbox>, DriverError> {
        self.starting.notify_one();
        // The engine is at it and does not hear that nobody wants it any more.
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok(Arc::new(Kept(self.closed.clone())))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_whose_run_is_stopped_while_it_starts_is_closed() {
    let driver = Arc::new(Slow::default());
    let job = Job {
        drivers: vec![driver.clone()],
        ..Job::new("await runtime.startSandbox({ image: 'x' });")
    };
    let stop = job.stop.clone();
    let server = Server::new(Vec::new());
    let stopping = async {
        driver.starting.notified().await;
        stop.cancel();
    };
    let (ran, ()) = tokio::join!(job.run(&server), stopping);
    assert_eq!(ran.end.outcome, "aborted");
    let closed = tokio::time::timeout(Duration::from_secs(5), driver.closed.notified()).await;
    assert!(closed.is_ok(), "it was closed");
}

/// A driver whose volumes are not removed yet when the next attempt comes.
#[derive(Default)]
struct Dawdling {
    native: NativeDriver,
    created: Mutex<Vec<Volume>>,
}

impl Drop for Dawdling {
    fn drop(&mut self) {
        for volume in self.created.lock().unwrap().iter() {
            let _ = std::fs::remove_dir_all(&volume.id);
        }
    }
}

#[async_trait]
impl Driver for Dawdling {
    fn name(&self) -> DriverName {
        DriverName::Native
    }
    async fn run(
        &self,
        spec: StepSpec,
        output: mpsc::Sender<Output>,
        stop: CancellationToken,
    ) -> Result<StepExit, DriverError> {
        self.native.run(spec, output, stop).await
    }
    async fn create_volume(
        &self,
        name: &str,
        labels: BTreeMap<String, String>,
    ) -> Result<Volume, DriverError> {
        let volume = self.native.create_volume(name, labels).await?;
        self.created.lock().unwrap().push(volume.clone());
        Ok(volume)
    }
    async fn has_volume(&self, volume: &Volume) -> bool {
        self.native.has_volume(volume).await
    }
    async fn remove_volume(&self, _: &Volume) {}
    async fn read_files(
        &self,
        volume: &Volume,
        paths: &[String],
    ) -> Result<BTreeMap<String, Bytes>, DriverError> {
        self.native.read_files(volume, paths).await
    }
    async fn start_sandbox(&self, spec: StepSpec) -> Result<Arc<dyn Sandbox>, DriverError> {
        self.native.start_sandbox(spec).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_volume_of_a_lost_attempt_is_not_taken_though_it_is_still_there() {
    let body = "
        const v = await volumes.create({ name: 'v' });
        const sh = (name, mounts) => runtime.run({ name, command: { path: 'sh', args: ['-c', 'echo ' + name] }, mounts });
        await sh('mounts', { v });
        await sh('plain', {});
        await sh('last', {});";
    let driver = Arc::new(Dawdling::default());
    let job = || Job {
        drivers: vec![driver.clone()],
        ..Job::new(body)
    };
    let server = Server::new(Vec::new());
    job().run(&server).await;
    let entries = server.entries();
    let died = Server::new(entries[..entries.len() - 1].to_vec());
    let second = job().attempt(2).run(&died).await;
    assert_eq!(
        (second.end.outcome.as_str(), second.stdout.as_str()),
        ("succeeded", "mounts\nlast\n")
    );
    assert_eq!(driver.created.lock().unwrap().len(), 2);
}
