//! What the command finds around it: the kernel's defaults, and what it was started with.

pub mod inherited;
pub mod kernel;
pub mod root;
pub mod variables;
