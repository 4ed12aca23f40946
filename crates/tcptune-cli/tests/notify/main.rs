//! `tcptune run --backend notify`: programs that no preload reaches. Real static programs, Go and busybox, as root and as
//! nobody, on loopback.

#[allow(dead_code, reason = "what the tests of the other screens need")]
#[path = "../command/harness.rs"]
mod command;
mod container;
mod ending;
mod harness;
#[path = "../../../../tests/e2e/harness/hole.rs"]
#[allow(dead_code, reason = "what the tests of the library need")]
mod hole;
mod options;
mod php;
mod protected;
mod rust;
mod supervisors;
mod timeouts;
mod way;
