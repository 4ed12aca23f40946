//! What a setting can be written as where it is not a number: one of a list of words, or a text.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

/// Words, of which a setting takes one. They are stored as their place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// In the order of [`crate::settings::profile::Precedence`].
    Precedence,
    /// In the order of [`log::LevelFilter`].
    Log,
    /// In the order of [`crate::settings::settled::Backend`].
    Backend,
    /// In the order of `IP_PMTUDISC_DONT` to `IP_PMTUDISC_OMIT` (ip(7)).
    MtuDiscover,
}

impl Choice {
    /// The words, with spaces between.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Precedence => "env program",
            Self::Log => "off error warn info debug trace",
            Self::Backend => "auto preload notify cgroup",
            Self::MtuDiscover => "dont want do probe interface omit",
        }
    }

    /// The words.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        self.text().split_ascii_whitespace()
    }
}

/// What is expected of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The name of a profile.
    Profile,
    /// The path of a file.
    Path,
    /// Names of programs.
    Programs,
    /// Rules.
    Rules,
}

impl Expected {
    /// For a message or a table.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Profile => {
                "the name of a profile: cloud-nat, database-client, fast-fail, interactive, server or one of your own"
            }
            Self::Path => "a path",
            Self::Programs => "names of programs with commas between; * stands for any characters",
            Self::Rules => "rules, MATCH=VALUE... : SETTING=VALUE... with ; between",
        }
    }
}
