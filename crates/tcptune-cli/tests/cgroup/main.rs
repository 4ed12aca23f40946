//! `tcptune attach`, `attached`, `detach` and `run --backend cgroup`, on real programs in cgroups of the tests' own.

mod group;
mod many;
mod places;
mod pods;
mod programs;
mod refused;
mod rules;
mod running;
mod timeouts;
mod trial;

#[path = "../../../../tests/e2e/deploy/cluster.rs"]
mod cluster;
#[path = "../live/harness.rs"]
#[allow(dead_code, reason = "the tests of inspect and apply use more of it")]
mod harness;
#[path = "../../../../tests/e2e/harness/hole.rs"]
#[allow(dead_code, reason = "the end-to-end tests of the library use more of it")]
mod hole;
#[path = "../../../../tests/e2e/harness/namespace.rs"]
#[allow(dead_code, reason = "the end-to-end tests of the library use more of it")]
mod namespace;
#[path = "../../../../tests/e2e/deploy/root.rs"]
mod root;
