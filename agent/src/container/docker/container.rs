//! A container of the engine that does not outlive its holder, and the two directions of what is attached to it.

use super::super::{Output, OutputStream};
use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptions, KillContainerOptions, RemoveContainerOptions,
};
use bytes::Bytes;
use futures_util::StreamExt;
use std::pin::Pin;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Asks the engine for a container. An engine goes on creating though its client has gone, so its answer is waited for
/// in any case: the guard of a container that nobody wants any more removes it.
pub(super) async fn create_container(
    docker: &Docker,
    options: CreateContainerOptions,
    body: ContainerCreateBody,
) -> Result<Container, Error> {
    let docker = docker.clone();
    let creating = tokio::spawn(async move {
        let created = docker.create_container(Some(options), body).await?;
        Ok(Container {
            docker,
            id: created.id,
            runtime: Handle::current(),
            removed: false,
        })
    });
    let panicked = |error| Error::IOError {
        err: std::io::Error::other(error),
    };
    creating.await.map_err(panicked)?
}

/// A container that does not outlive this.
pub(super) struct Container {
    pub(super) docker: Docker,
    pub(super) id: String,
    pub(super) runtime: Handle,
    pub(super) removed: bool,
}

impl Container {
    pub(super) async fn kill(&self, signal: &str) {
        let options = KillContainerOptions {
            signal: signal.to_owned(),
        };
        // It may have ended by itself; the wait tells.
        let _ = self.docker.kill_container(&self.id, Some(options)).await;
    }

    pub(super) async fn remove(mut self) {
        remove(&self.docker, &self.id).await;
        self.removed = true;
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if !self.removed {
            let (docker, id) = (self.docker.clone(), std::mem::take(&mut self.id));
            // Owned by the runtime: it ends with the engine's answer.
            self.runtime
                .spawn(async move { remove(&docker, &id).await });
        }
    }
}

/// Removes a container, running or not, with its anonymous volumes.
pub(in crate::container) async fn remove(docker: &Docker, id: &str) {
    let options = RemoveContainerOptions {
        force: true,
        v: true,
        ..RemoveContainerOptions::default()
    };
    match docker.remove_container(id, Some(options)).await {
        Ok(())
        | Err(Error::DockerResponseServerError {
            status_code: 404 | 409,
            ..
        }) => {}
        Err(error) => {
            tracing::warn!(%error, container = id, "cannot remove a container; the next start will")
        }
    }
}

pub(super) type LogStream =
    Pin<Box<dyn futures_util::Stream<Item = Result<LogOutput, Error>> + Send>>;

pub(super) async fn copy(mut from: LogStream, to: mpsc::Sender<Output>) {
    while let Some(Ok(piece)) = from.next().await {
        let (stream, bytes) = match piece {
            LogOutput::StdErr { message } => (OutputStream::Stderr, message),
            LogOutput::StdOut { message } | LogOutput::Console { message } => {
                (OutputStream::Stdout, message)
            }
            LogOutput::StdIn { .. } => continue,
        };
        if !bytes.is_empty() {
            // Nobody wants it: read on, so that the process is not held up.
            let _ = to.send((stream, bytes)).await;
        }
    }
}

pub(super) async fn feed(mut input: Pin<Box<dyn AsyncWrite + Send>>, data: Option<Bytes>) {
    if let Some(data) = data {
        // A process that does not read its input is no error.
        let _ = input.write_all(&data).await;
        let _ = input.shutdown().await;
    } else {
        // Kept open: closing the attachment would end the output on some engines.
        std::future::pending::<()>().await;
    }
}
