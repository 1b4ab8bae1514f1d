//! A native step as another user of the machine.

use super::native::engine;
use super::{DriverError, Mount};
use nix::unistd::{Gid, Uid, User};
use std::path::Path;
use tokio::process::Command;

pub(super) fn become_user(
    command: &mut Command,
    name: &str,
    home: &Path,
    mounts: &[Mount],
) -> Result<(), DriverError> {
    let (uid, gid) = user_and_group(name)?;
    if uid == Uid::effective() {
        return Ok(());
    }
    if !Uid::effective().is_root() {
        return Err(DriverError::Invalid(format!(
            "command.user {name:?} needs an agent that runs as root; leave it out with the native driver"
        )));
    }
    let volumes = mounts.iter().map(|mount| Path::new(&mount.volume));
    for directory in std::iter::once(home).chain(volumes) {
        std::os::unix::fs::chown(directory, Some(uid.as_raw()), Some(gid.as_raw()))
            .map_err(|error| engine("hand the step's directory to the user", &error))?;
    }
    command.uid(uid.as_raw()).gid(gid.as_raw());
    Ok(())
}

/// `name`, `uid` or `uid:gid`; a number needs no entry in the machine's user list.
pub(super) fn user_and_group(name: &str) -> Result<(Uid, Gid), DriverError> {
    let (user, group) = name.split_once(':').unwrap_or((name, ""));
    let unknown = || {
        DriverError::Invalid(format!(
            "command.user {name:?} does not exist on the agent's machine"
        ))
    };
    let found = match user.parse::<u32>() {
        Ok(uid) => User::from_uid(Uid::from_raw(uid)),
        Err(_) => User::from_name(user),
    };
    let found = found.map_err(|error| engine("look up the user", &error))?;
    let uid = match (&found, user.parse()) {
        (Some(found), _) => found.uid,
        (None, Ok(uid)) => Uid::from_raw(uid),
        (None, Err(_)) => return Err(unknown()),
    };
    let gid = match (group, &found) {
        ("", Some(found)) => found.gid,
        ("", None) => Gid::from_raw(uid.as_raw()),
        (group, _) => Gid::from_raw(group.parse().map_err(|_| unknown())?),
    };
    Ok((uid, gid))
}
