//! Standard output: coloured and fitted to the width on a terminal only, or JSON for machines.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches};
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Row, Table, presets};
use serde::Serialize;

use super::error::Error;
use super::text::{safe, safe_json, safe_lines};
use crate::system::inherited;
use crate::system::variables::{self, Variables};

/// How the subcommands write.
pub struct Output {
    json: bool,
    coloured: bool,
    /// Columns of the terminal; none where there is no terminal: nothing is wrapped then.
    width: Option<u16>,
}

/// What a part of the output means. Colour only underlines it: the words say it as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As any text.
    Plain,
    /// A title.
    Heading,
    /// As it should be.
    Good,
    /// To be looked at.
    Warning,
    /// Not as it should be.
    Bad,
    /// Of less interest.
    Faint,
}

/// The flags that every subcommand takes.
pub fn args() -> [Arg; 2] {
    [
        Arg::new("json")
            .long("json")
            .global(true)
            .action(ArgAction::SetTrue)
            .help_heading("Output")
            .help("Print JSON, for other programs"),
        Arg::new("color")
            .long("color")
            .global(true)
            .value_name("WHEN")
            .value_parser(PossibleValuesParser::new(["auto", "always", "never"]))
            .default_value("auto")
            .help_heading("Output")
            .help("Colour: auto is on a terminal, unless NO_COLOR is set"),
    ]
}

/// Whether the environment says that a terminal shall have colours.
fn takes_colour(variables: &Variables) -> bool {
    !variables.no_color() && variables.term().is_some_and(|term| term != "dumb")
}

impl Output {
    /// As the flags say.
    pub fn new(matches: &ArgMatches) -> Self {
        let coloured = match matches.get_one::<String>("color").map(String::as_str) {
            Some("always") => true,
            Some("never") => false,
            _ => io::stdout().is_terminal() && takes_colour(variables::own()),
        };
        let terminal = io::stdout().is_terminal().then(terminal_size::terminal_size).flatten();
        Self { json: matches.get_flag("json"), coloured, width: terminal.map(|(width, _)| width.0) }
    }

    /// Whether JSON is asked for.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Columns of the terminal; none where there is none.
    pub fn width(&self) -> Option<usize> {
        self.width.map(usize::from)
    }

    /// Empties the screen for the next of several looks; without a terminal they follow each other.
    pub fn begin_screen(&self) -> Result<(), Error> {
        match self.width {
            Some(_) => {
                let mut stdout = io::stdout().lock();
                write!(stdout, "\x1b[H\x1b[2J")?;
                Ok(stdout.flush()?)
            }
            None => self.print(""),
        }
    }

    /// Writes lines of text, wrapped by the caller.
    pub fn print(&self, text: impl Display) -> Result<(), Error> {
        self.write(safe_lines(&text.to_string(), self.coloured).as_bytes())
    }

    /// Writes what a shell shall take, byte by byte.
    pub fn print_bytes(&self, text: &[u8]) -> Result<(), Error> {
        self.write(text)
    }

    #[allow(clippy::unused_self, reason = "whoever prints was given an output to print to")]
    fn write(&self, line: &[u8]) -> Result<(), Error> {
        if inherited::has_no_output() {
            return Err(io::Error::from_raw_os_error(libc::EBADF).into());
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(line)?;
        stdout.write_all(b"\n")?;
        Ok(stdout.flush()?)
    }

    /// Writes a value as JSON.
    pub fn print_json(&self, value: &impl Serialize) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
        self.write(safe_json(text).as_bytes())
    }

    /// Writes a value as one line of JSON.
    pub fn print_json_line(&self, value: &impl Serialize) -> Result<(), Error> {
        let text = serde_json::to_string(value).map_err(io::Error::from)?;
        self.write(safe_json(text).as_bytes())
    }

    /// A table with this header: aligned, without lines, wrapped to the width of the terminal.
    pub fn table(&self, header: &[&str]) -> Table {
        let mut table = self.plain_table();
        table.set_header(Row::from(header.iter().map(|title| self.cell(Tone::Heading, title)).collect::<Vec<_>>()));
        table
    }

    /// The same without a header.
    pub fn plain_table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        match self.width {
            Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        if self.coloured {
            table.enforce_styling()
        } else {
            table.force_no_tty()
        };
        table
    }

    /// Writes a table.
    pub fn print_table(&self, table: &Table) -> Result<(), Error> {
        let mut table = table.clone();
        for column in table.column_iter_mut() {
            column.set_padding((0, 2)); // of the columns that the rows have made
        }
        for line in table.lines() {
            self.print(line.trim_end())?;
        }
        Ok(())
    }

    /// A cell of a table.
    #[allow(clippy::unused_self, reason = "beside `paint`, and the table decides on colours")]
    pub fn cell(&self, tone: Tone, text: impl Display) -> Cell {
        let cell = Cell::new(safe(&text.to_string()));
        match tone {
            Tone::Plain => cell,
            Tone::Heading => cell.add_attribute(Attribute::Bold),
            Tone::Good => cell.fg(Color::DarkGreen),
            Tone::Warning => cell.fg(Color::DarkYellow),
            Tone::Bad => cell.fg(Color::DarkRed),
            Tone::Faint => cell.add_attribute(Attribute::Dim),
        }
    }

    /// Text in the colour of its tone.
    pub fn paint(&self, tone: Tone, text: impl Display) -> String {
        let style = match tone {
            Tone::Plain => Style::new(),
            Tone::Heading => Style::new().bold(),
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Warning => AnsiColor::Yellow.on_default(),
            Tone::Bad => AnsiColor::Red.on_default(),
            Tone::Faint => Style::new().dimmed(),
        };
        let text = text.to_string();
        let text = safe(&text);
        if self.coloured { format!("{style}{text}{style:#}") } else { text.into_owned() }
    }
}
