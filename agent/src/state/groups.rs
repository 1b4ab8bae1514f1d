//! Process groups of native steps, told apart from others that the system gave the same number.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Where the kernel tells which boot this is (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Which start of the machine this is; empty if the system does not say.
pub(super) fn boot() -> String {
    let id = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
    id.trim().to_owned()
}

/// Kills what is left of a group of this boot, unless its number is another process's by now.
pub(super) fn kill(group: i32, started: u64) {
    // While a group has members, the system gives its number to no other process.
    let is_ours = started_at(group).is_none_or(|now| now == started);
    if group > 1 && is_ours {
        // No such group: everything has ended already.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
}

/// When a process started, in clock ticks since boot (proc(5), stat, field 22).
pub(super) fn started_at(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may have spaces: field 3 is what follows the last one.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    fn sleeper() -> (Child, i32, u64) {
        let mut command = Command::new("sleep");
        let child = command.arg("600").process_group(0).spawn().unwrap();
        let group = child.id() as i32;
        (child, group, started_at(group).unwrap())
    }

    #[test]
    fn the_machine_says_which_boot_it_is() {
        assert!(!boot().is_empty());
        assert_eq!(boot(), boot());
    }

    #[test]
    fn a_group_is_killed_and_a_reused_number_is_not() {
        let (mut ours, group, started) = sleeper();
        let (mut other, reused, since) = sleeper();
        kill(reused, since - 1);
        kill(group, started);
        assert!(!ours.wait().unwrap().success());
        assert!(
            other.try_wait().unwrap().is_none(),
            "another process with that number lives"
        );
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
