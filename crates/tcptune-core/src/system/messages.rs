//! Messages of a hook path. They are put together aside: what that takes of the stack, no hook takes without a message.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use log::Level;

/// Whether messages of this level are wanted.
#[must_use]
#[inline]
pub fn are_wanted(level: Level) -> bool {
    level <= log::max_level()
}

/// Whether those of level debug are.
#[must_use]
#[inline]
pub fn debugging() -> bool {
    are_wanted(Level::Debug)
}

/// Runs what says something in a frame of its own.
#[cold]
#[inline(never)]
pub fn aside(say: impl FnOnce()) {
    say();
}

/// A message: a level (`Debug`), and a text as for `format!`.
#[macro_export]
macro_rules! say {
    ($level:ident, $($text:tt)+) => {
        if $crate::system::messages::are_wanted(::log::Level::$level) {
            $crate::system::messages::aside(|| ::log::log!(::log::Level::$level, $($text)+));
        }
    };
}
