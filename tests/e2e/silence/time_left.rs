//! What select(2) leaves of the program's time: glibc writes back what is left, musl leaves it as it was, and a program
//! may use it again.

use crate::harness::{Program, probe, probe_of_musl};

#[test]
fn select_leaves_the_time_as_its_libc_does() {
    let mut left = Vec::new();
    for program in [probe("select"), probe_of_musl("select")] {
        let run = |program: Program| {
            let ended = program.run();
            ended.succeeded();
            [0, 1, 2].map(|turn| ended.number(&format!("left{turn}")))
        };
        let plain = run(Program::new(&program));
        assert_eq!(run(Program::new(&program).tuned(&[("RECV_TIMEOUT", "5")])), plain, "{}", program.display());
        left.push(plain);
    }
    assert!(cfg!(not(target_arch = "x86_64")) || left[0] != left[1], "the two differ: {left:?}");
}
