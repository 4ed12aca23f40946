//! Every function of the libc at hand that takes a descriptor is hooked, or cannot matter to an attempt.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::harness::library;

/// Functions that are not hooked, with the reason why: an attempt's user timeout ends nothing before start + T, so what
/// neither sends nor waits needs no look at it.
const NOT_HOOKED: &[(&str, &str)] = &[
    ("there is no TCP socket among its arguments, or the kernel refuses one",
     "copy_file_range tee vmsplice readahead sync_file_range fallocate fallocate64 posix_fallocate posix_fallocate64
      posix_fadvise posix_fadvise64 ftruncate ftruncate64 fsync fdatasync syncfs lseek lseek64 getdents64 getdirentries
      getdirentries64 fdopendir fchdir fexecve execveat signalfd timerfd_gettime timerfd_settime inotify_add_watch
      inotify_rm_watch fanotify_mark eventfd_read eventfd_write pidfd_getfd pidfd_send_signal process_madvise
      process_mrelease setns grantpt ptsname ptsname_r __ptsname_r_chk unlockpt login_tty isatty ttyname ttyname_r __ttyname_r_chk tcdrain tcflow
      tcflush tcgetattr tcgetpgrp tcgetsid tcsendbreak tcsetattr tcsetpgrp tcgetwinsize tcsetwinsize cfmakeraw
      fsconfig fsmount fspick move_mount mount_setattr open_tree lockf lockf64"),
    ("a position of its own: the kernel gives ESPIPE",
     "pread pread64 pwrite pwrite64 preadv preadv64 pwritev pwritev64 __pread64 __pwrite64 __pread_chk __pread64_chk
      __libc_pread __libc_pwrite __lseek lseek llseek __pwrite"),
    ("the descriptor is a directory, or stands for one",
     "openat openat64 __openat_2 __openat64_2 faccessat fchmodat fchownat fstatat fstatat64 futimesat linkat mkdirat
      mkfifoat mknodat __mknodat readlinkat __readlinkat_chk renameat renameat2 scandirat scandirat64 statx symlinkat
      unlinkat utimensat name_to_handle_at open_by_handle_at __fxstatat __fxstatat64 __xmknodat"),
    ("it looks at a descriptor, or marks it, and returns at once",
     "fstat fstat64 __fstat64 __fxstat __fxstat64 fstatfs fstatfs64 fstatvfs fstatvfs64 fchmod fchown futimens futimes fgetxattr
      flistxattr fremovexattr fsetxattr fpathconf flock getsockname sockatmark isfdtype mmap mmap64 __mmap"),
    ("for a child that is to be made: what it does to its own descriptors comes to no socket's attempt",
     "posix_spawn_file_actions_addclose posix_spawn_file_actions_adddup2 posix_spawn_file_actions_addfchdir_np
      posix_spawn_file_actions_addopen posix_spawn_file_actions_addtcsetpgrp_np
      posix_spawn_file_actions_addclosefrom_np"),
    ("binds, before any attempt", "bindresvport bindresvport6"),
    ("libc's own, by version GLIBC_PRIVATE: no program can be linked to it",
     "__recv __libc_fcntl64 __write_nocancel __read_nocancel __close_nocancel __pread64_nocancel __open_nocancel __fcntl64_nocancel"),
    ("makes a socket, which is looked up at the first call on it", "__socket"),
    ("connects by libc's own calls, which no hook sees, and waits for the answer", "rcmd rcmd_af rexec rexec_af"),
    ("reads and writes at positions of their own, which the kernel refuses", "aio_cancel aio_cancel64"),
];

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Names that a library exports, with where they are.
fn exported(path: &str) -> BTreeMap<String, String> {
    let symbols = output("nm", &["-D", "--defined-only", path]);
    let functions = symbols.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (address, kind, name) = (words.next()?, words.next()?, words.next()?);
        // A name that only old programs refer to has one @.
        let (name, version) = name.split_once('@').unwrap_or((name, "@"));
        (matches!(kind, "T" | "W" | "i") && version.starts_with('@')).then(|| (name.to_owned(), address.to_owned()))
    });
    functions.collect()
}

/// Names of functions whose prototype in a header has a parameter that stands for a descriptor, or for several.
fn declared() -> BTreeSet<String> {
    let headers =
        "aio.h arpa/inet.h dirent.h fcntl.h fmtmsg.h netdb.h netinet/in.h poll.h pty.h sched.h spawn.h stdio.h
        stdlib.h sys/epoll.h sys/eventfd.h sys/fanotify.h sys/file.h sys/inotify.h sys/ioctl.h sys/mman.h sys/mount.h
        sys/pidfd.h sys/select.h sys/sendfile.h sys/signalfd.h sys/socket.h sys/stat.h sys/statfs.h sys/statvfs.h
        sys/time.h sys/timerfd.h sys/uio.h sys/xattr.h termios.h unistd.h utmp.h";
    let mut source = "#define _GNU_SOURCE\n".to_owned();
    for header in headers.split_whitespace() {
        writeln!(source, "#if __has_include(<{header}>)\n#include <{header}>\n#endif").expect("memory");
    }
    let mut compiler = Command::new("cc")
        .args(["-E", "-P", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a compiler");
    compiler.stdin.take().expect("piped").write_all(source.as_bytes()).expect("written");
    let text = compiler.wait_with_output().expect("its output").stdout;
    let text = String::from_utf8_lossy(&text).replace('\n', " ");
    let takes_one = |parameter: &str| {
        let name = parameter.rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default();
        let is_int = parameter.trim_start().starts_with("int ");
        (is_int && (name.contains("fd") || name.contains("fildes")))
            || parameter.contains("pollfd")
            || parameter.contains("fd_set")
    };
    let prototypes = text.split([';', '{', '}']).filter_map(|statement| {
        let (before, after) = statement.split_once('(')?;
        let (parameters, _) = after.split_once(')')?;
        let name = before
            .trim_end()
            .rsplit(|c: char| !(c.is_alphanumeric() || c == '_'))
            .next()
            .filter(|name| !name.is_empty())?;
        parameters.split(',').any(takes_one).then(|| name.to_owned())
    });
    prototypes.collect()
}

#[test]
fn all_of_them_are_hooked_or_cannot_matter() {
    let maps = fs::read_to_string("/proc/self/maps").expect("of this process");
    let libc = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.contains("/libc.so"));
    let libc = exported(libc.expect("a dynamic libc"));
    let hooked: BTreeSet<_> = exported(library().to_str().expect("UTF-8")).into_keys().collect();
    let reasons: BTreeMap<_, _> =
        NOT_HOOKED.iter().flat_map(|(reason, names)| names.split_whitespace().map(|name| (name, *reason))).collect();
    let of_headers: BTreeSet<_> = declared().into_iter().filter(|name| libc.contains_key(name)).collect();
    assert!(of_headers.len() > 100, "prototypes are found: {of_headers:?}");
    let both: Vec<_> = reasons.keys().filter(|name| hooked.contains(**name)).collect();
    assert!(both.is_empty(), "hooked, and on the list of those that are not: {both:?}");
    // What is at the same place, or has such a name, is the same function.
    let known: BTreeSet<_> = of_headers.iter().chain(&hooked).filter_map(|name| libc.get(name)).collect();
    let root =
        |name: &str| name.trim_start_matches('_').trim_start_matches("libc_").trim_end_matches("_chk").to_owned();
    let roots: BTreeSet<_> = of_headers.iter().chain(&hooked).map(|name| root(name)).collect();
    let missing: Vec<_> = libc
        .iter()
        .filter(|(name, address)| of_headers.contains(*name) || known.contains(address) || roots.contains(&root(name)))
        .map(|(name, _)| name)
        .filter(|name| !hooked.contains(*name) && !reasons.contains_key(name.as_str()))
        .collect();
    assert!(missing.is_empty(), "neither hooked nor said to be harmless: {missing:?}");
}
