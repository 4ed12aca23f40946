//! The TCP sockets of a running process, seen from outside: no ptrace attach, no signal, no code in the process.
//!
//! What sock_diag(7) tells of a socket is read there, and touches nothing. It does not tell options: pidfd_getfd(2) gives a
//! duplicate of a descriptor, and getsockopt(2) and setsockopt(2) on the duplicate are about the same socket. The duplicate
//! also keeps the socket open: while it is there, a close by the program sends no FIN, frees no port, and does not take the
//! socket out of the program's epoll sets (epoll(7)). So only connections are duplicated unless more is asked for, one
//! descriptor after another, and each duplicate is closed before the next one is made. Nothing else is done with it: file
//! status flags belong to the open file description, which the program shares, as does shutdown(2).

pub mod denied;
pub mod diag;
pub mod filter;
pub mod library;
pub mod process;
pub mod select;
pub mod snapshot;
pub mod socket;
pub mod state;
