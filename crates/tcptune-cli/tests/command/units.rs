//! `tcptune enable` and `tcptune disable`.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::harness::{directory, library, said, tcptune};

const UNIT: &str =
    "[Unit]\nDescription=A service that nobody can change\nDefaultDependencies=no\n[Service]\nExecStart=/bin/true\n";

#[test]
fn a_service_is_enabled_and_disabled() {
    let directory = directory();
    let root = directory.path().to_str().expect("UTF-8");
    let units = directory.path().join("etc/systemd/system");
    fs::create_dir_all(&units).expect("made");
    fs::write(units.join("legacy.service"), UNIT).expect("written");
    fs::create_dir_all(directory.path().join("bin")).expect("made");
    fs::copy("/bin/true", directory.path().join("bin/true")).expect("copied");
    let file = units.join("legacy.service.d/50-tcptune.conf");
    let there = directory.path().join(library().strip_prefix("/").expect("an absolute path"));
    fs::create_dir_all(there.parent().expect("a directory")).expect("made");
    fs::write(there, "").expect("written");

    let args = ["enable", "legacy", "--keepidle", "60", "--rule", "dst=::1 : off", "--root", root];
    let dry = said(&mut tcptune(args.into_iter().chain(["--dry-run"])));
    assert!(dry.ok().contains("Environment=\"TCPTUNE_KEEPIDLE=60\"") && !file.exists(), "{dry:?}");
    let enabled = said(&mut tcptune(args));
    assert!(enabled.ok().contains("systemctl restart legacy.service"), "{enabled:?}");
    let text = fs::read_to_string(&file).expect("the drop-in file");
    assert!(text.contains(&format!("Environment=\"LD_PRELOAD={}\"", library().display())), "{text}");
    assert!(text.contains("Environment=\"TCPTUNE_RULES=dst=::1 : off\""), "{text}");

    // systemd itself reads it.
    let mut verify = Command::new("systemd-analyze");
    let verified = said(verify.args(["verify", "--man=no", "--root", root, "legacy.service"]));
    assert!(verified.code == Some(0) && !verified.stderr.contains("50-tcptune"), "{verified:?}");

    fs::write(file.with_file_name("10-other.conf"), "[Service]\nNice=1\n").expect("written");
    said(&mut tcptune(["disable", "legacy", "--root", root])).ok();
    assert!(!file.exists() && file.with_file_name("10-other.conf").exists());
    let again = said(&mut tcptune(["disable", "legacy", "--root", root]));
    assert!(again.refused(1).contains("legacy.service is not enabled"), "{again:?}");
}

/// What it writes for a name with a typo would never hold.
#[test]
fn a_service_that_is_not_there_is_said() {
    let directory = directory();
    let root = directory.path().to_str().expect("UTF-8");
    let units = directory.path().join("usr/lib/systemd/system");
    fs::create_dir_all(&units).expect("made");
    fs::write(units.join("worker@.service"), UNIT).expect("written");
    for (name, is_there) in [("worker@", true), ("worker@1", true), ("worker", false), ("walker@1", false)] {
        let enabled = said(&mut tcptune(["enable", name, "--keepidle", "60", "--root", root]));
        assert_eq!(enabled.code, Some(0), "{enabled:?}");
        assert_eq!(!enabled.stderr.contains("no unit file of"), is_there, "{enabled:?}");
    }
}

#[test]
fn links_of_an_image_lead_nowhere_else() {
    let (directory, outside) = (directory(), directory());
    let root = directory.path().to_str().expect("UTF-8");
    let inside = directory.path().join("usr/etc");
    fs::create_dir_all(&inside).expect("made");
    for target in ["/usr/etc", "../../../../usr/etc"] {
        symlink(target, directory.path().join("etc")).expect("a link");
        let enabled = said(&mut tcptune(["enable", "legacy", "--keepidle", "60", "--root", root]));
        assert!(enabled.stderr.contains(&format!("has no {}", library().display())), "{enabled:?}");
        assert!(inside.join("systemd/system/legacy.service.d/50-tcptune.conf").is_file(), "{target}: {enabled:?}");
        said(&mut tcptune(["disable", "legacy", "--root", root])).ok();
        assert!(!inside.join("systemd/system/legacy.service.d").exists(), "{target}");
        fs::remove_file(directory.path().join("etc")).expect("removed");
    }
    // A directory of this machine is none of the image.
    symlink(outside.path(), directory.path().join("etc")).expect("a link");
    let refused = said(&mut tcptune(["enable", "legacy", "--keepidle", "60", "--root", root]));
    assert!(refused.refused(1).contains("cannot be written"), "{refused:?}");
    assert_eq!(fs::read_dir(outside.path()).expect("read").count(), 0);
}

#[test]
fn what_enable_refuses() {
    for (args, part) in [
        (&["enable", "legacy"][..], "no setting is given"),
        (&["enable", "legacy.timer", "--keepidle", "5"], "is no service"),
        (&["enable", "../legacy", "--keepidle", "5"], "is no service"),
        (&["enable", "legacy", "--keepidle", "x"], "keepidle"),
    ] {
        let said = said(&mut tcptune(args.iter().chain(&["--root", "/nowhere"])));
        assert!(said.refused(2).contains(part), "{said:?}");
    }
}
