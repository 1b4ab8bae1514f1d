//! Images of the engine beyond pulling: their configuration, and making one of a volume's files.

use super::super::{DriverError, ImageConfig, Owner, RegistryLogin, Volume};
use super::DockerDriver;
use std::collections::BTreeMap;

impl DockerDriver {
    /// What the image says of its processes; it is pulled if the engine does not have it.
    pub async fn image_config(
        &self,
        _image: &str,
        _login: Option<&RegistryLogin>,
    ) -> Result<ImageConfig, DriverError> {
        Err(super::super::lacks("images yet"))
    }

    /// The numbers of a user (`name`, `uid`, `name:group`, `uid:gid`) by the image's own lists; `None` is root.
    pub async fn image_owner(
        &self,
        _image: &str,
        _user: &str,
    ) -> Result<Option<Owner>, DriverError> {
        Err(super::super::lacks("images yet"))
    }

    /// Makes an image of a volume with `rootfs/` and `metadata.json` `{env, user, entrypoint, cmd}`; answers its name. It
    /// carries the labels, and is removed by the sweep that they match.
    pub async fn import_image(
        &self,
        _volume: &Volume,
        _labels: &BTreeMap<String, String>,
    ) -> Result<String, DriverError> {
        Err(super::super::lacks("images yet"))
    }

    /// Removes an image of the engine; one that is gone is no error.
    pub async fn remove_image(&self, _image: &str) {}
}
