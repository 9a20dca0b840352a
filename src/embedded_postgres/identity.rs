//! As whom PostgreSQL runs. It refuses to be root, so as root Weir lends it another identity.
//!
//! In order: as an ordinary user, that user. As root, the user who owns the cluster already, else `weir`, `postgres` or
//! `nobody`, provided that they can reach the data directory. Where they cannot (a data directory below `/root`), root under
//! another number inside a user namespace: the files stay root's.

#![expect(
    unsafe_code,
    reason = "what runs between fork and exec of the child must be set up here; each use says why it holds"
)]

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use super::StartError;

/// Users that may run PostgreSQL for root, the best first.
const USERS: [&str; 3] = ["weir", "postgres", "nobody"];
/// The number that root has inside the namespace. Any but 0.
#[cfg(target_os = "linux")]
const INSIDE_MAP: &[u8] = b"1000 0 1\n";

/// As whom PostgreSQL runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identity {
    /// As who Weir is.
    Same,
    /// As another user and group.
    User { uid: u32, gid: u32 },
    /// As root, which believes to be somebody else.
    Namespace,
}

impl Identity {
    /// Decides for this data directory.
    pub(super) fn choose(data_dir: &Path, cluster: &Path, bin: &Path) -> Result<Self, StartError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Same);
        }
        let owner = fs::metadata(cluster).map(|m| (m.uid(), m.gid())).ok();
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let users = USERS.into_iter().filter_map(|name| look_up(&passwd, name));
        let reaches = |uid, gid| {
            let user = Self::User { uid, gid };
            user.reaches(data_dir) && user.reaches(bin)
        };
        let choice = decide(owner, users, reaches);
        if choice == Self::Namespace && !cfg!(target_os = "linux") {
            return Err(StartError::Root { reason: "no other user can reach the data directory".to_owned() });
        }
        Ok(choice)
    }

    /// Who owns the files, as seen from Weir.
    pub(super) fn owner(&self) -> u32 {
        match self {
            Self::Same => rustix::process::geteuid().as_raw(),
            Self::User { uid, .. } => *uid,
            Self::Namespace => 0,
        }
    }

    /// Makes a file or folder theirs.
    pub(super) fn give(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::User { uid, gid } => std::os::unix::fs::chown(path, Some(*uid), Some(*gid)),
            Self::Same | Self::Namespace => Ok(()),
        }
    }

    /// Whether they may pass through every folder down to `path`.
    pub(super) fn reaches(&self, path: &Path) -> bool {
        let Self::User { uid, gid } = self else { return true };
        path.ancestors().filter(|p| !p.as_os_str().is_empty()).all(|folder| {
            fs::metadata(folder).is_ok_and(|m| {
                let bit = if m.uid() == *uid {
                    0o100
                } else if m.gid() == *gid {
                    0o010
                } else {
                    0o001
                };
                m.mode() & bit != 0
            })
        })
    }

    /// A command that runs as them, in a clean environment, and gets SIGINT when the thread that spawned it ends.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("LC_ALL", "C").env("TZ", "UTC");
        if let Self::User { uid, gid } = self {
            // The standard library also drops the supplementary groups.
            command.uid(*uid).gid(*gid);
        }
        #[cfg(target_os = "linux")]
        {
            let namespace = *self == Self::Namespace;
            // SAFETY: the closure runs in the forked child, which has one thread, and makes system calls only: no
            // allocation, no lock. It runs after setuid, which would clear the death signal.
            unsafe {
                command.pre_exec(move || {
                    if namespace {
                        enter_namespace()?;
                    }
                    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::INT))?;
                    Ok(())
                });
            }
        }
        command
    }

    /// What a failed spawn means for the person at the keyboard.
    pub(super) fn spawn_error(&self, program: &'static str, error: io::Error) -> StartError {
        if *self == Self::Namespace && error.kind() == io::ErrorKind::PermissionDenied {
            let reason =
                "no other user can reach the data directory, and this system forbids user namespaces".to_owned();
            return StartError::Root { reason };
        }
        StartError::Program { program, detail: error.to_string() }
    }
}

/// The choice as root. `owner` is the owner of the cluster, if there is one.
fn decide(
    owner: Option<(u32, u32)>,
    users: impl Iterator<Item = (u32, u32)>,
    reaches: impl Fn(u32, u32) -> bool,
) -> Identity {
    match owner {
        Some((0, _)) => Identity::Namespace,
        Some((uid, gid)) => Identity::User { uid, gid },
        None => users
            .into_iter()
            .find(|(uid, gid)| reaches(*uid, *gid))
            .map_or(Identity::Namespace, |(uid, gid)| Identity::User { uid, gid }),
    }
}

/// User and group number of a name in the text of `/etc/passwd`.
fn look_up(passwd: &str, name: &str) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then_some(())?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        (uid != 0).then_some((uid, gid))
    })
}

/// Leaves root's user namespace for one in which root has another number.
#[cfg(target_os = "linux")]
fn enter_namespace() -> io::Result<()> {
    // SAFETY: only file descriptors could be shared with other threads by mistake, and this changes none.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWUSER)? };
    write_once(c"/proc/self/setgroups", b"deny")?;
    write_once(c"/proc/self/uid_map", INSIDE_MAP)?;
    write_once(c"/proc/self/gid_map", INSIDE_MAP)
}

#[cfg(target_os = "linux")]
fn write_once(path: &std::ffi::CStr, text: &[u8]) -> io::Result<()> {
    use rustix::fs::{Mode, OFlags};
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\npostgres:x:101:104::/var/lib/postgresql:/bin/bash\n\
                          nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\nfake:x:0:0::/:/bin/sh\n";

    #[test]
    fn users_are_found_by_name_and_root_by_another_name_is_not() {
        assert_eq!(look_up(PASSWD, "postgres"), Some((101, 104)));
        assert_eq!(look_up(PASSWD, "weir"), None);
        assert_eq!(look_up(PASSWD, "fake"), None);
    }

    #[test]
    fn a_cluster_keeps_its_owner_and_a_new_one_goes_to_the_first_user_who_can_reach_it() {
        let users = || [(101, 104), (65534, 65534)].into_iter();
        assert_eq!(decide(Some((7, 8)), users(), |_, _| true), Identity::User { uid: 7, gid: 8 });
        assert_eq!(decide(Some((0, 0)), users(), |_, _| true), Identity::Namespace);
        assert_eq!(decide(None, users(), |uid, _| uid != 101), Identity::User { uid: 65534, gid: 65534 });
        assert_eq!(decide(None, users(), |_, _| false), Identity::Namespace);
    }

    #[test]
    fn a_closed_folder_on_the_way_stops_other_users() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let stranger = Identity::User { uid: 4_000_000, gid: 4_000_000 };
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o711)).unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o711)).unwrap();
        assert!(stranger.reaches(&inner));
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!stranger.reaches(&inner));
        assert!(Identity::Same.reaches(&inner));
    }
}
