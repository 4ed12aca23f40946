//! What is printed, as snapshots. `TRYCMD=overwrite cargo test -p tcptune-cli --test command` writes them anew; what is
//! of the machine is `[..]` there.

use crate::harness::{directory, library};

#[test]
fn screens() {
    let home = directory();
    trycmd::TestCases::new()
        .env("TCPTUNE_LIBRARY", library().to_str().expect("UTF-8"))
        .env("HOME", home.path().to_str().expect("UTF-8"))
        .env("XDG_CONFIG_HOME", "")
        .env("COLUMNS", "100")
        .insert_var("[LIBRARY]", library().to_str().expect("UTF-8").to_owned())
        .expect("a variable")
        .case("tests/screens/*.trycmd");
}
