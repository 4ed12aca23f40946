//! man DATE: prints the man page libtcptune(7). Its settings are the option table.

use std::fmt::Write;

use tcptune_core::options::table::{DOCS, OPTIONS, PREFIX, Since};

const BEGIN: &str = r".SH NAME
libtcptune \- tunes the TCP sockets of unmodified programs
.SH SYNOPSIS
.nf
\fBLD_PRELOAD=libtcptune.so\fR \fBTCPTUNE_\fINAME\fB=\fIvalue\fR ... \fIcommand\fR
\fBtcptune run \-\-\fIname\fR \fIvalue\fR ... \fIcommand\fR
.fi
.SH DESCRIPTION
.B libtcptune.so
is preloaded into a program that cannot be changed
(see
.BR ld.so (8)).
Where it is not installed in a directory that the loader looks into by itself,
.B LD_PRELOAD
takes its whole path.
It sets the socket options that environment variables ask for on every TCP socket of the program,
and ends connects that take too long.
What is not set stays exactly as it was.
UDP, UNIX and all other sockets are not touched.
.PP
A duration is a number with
.BR ms ,
.BR s ,
.B m
or
.BR h ,
fractions allowed;
without a unit it is in the unit of the kernel's option, and in seconds for tcptune's own timeouts.
One that is finer than the option's unit is rounded up.
Empty is as if unset;
.B default
is the value of the kernel, also where a file or a profile says another one.
A wrong value, or a name with a typo, is reported in one line and left out;
the others hold, and the program runs.
.SH ENVIRONMENT
";

const END: &str = r".SH RULES
A rule says whom settings hold for:
.PP
.in +4n
.EX
\fImatch\fB=\fIvalue\fR ... \fB:\fR \fIsetting\fB=\fIvalue\fR ...
\fImatch\fB=\fIvalue\fR ... \fB: off\fR
.EE
.in
.PP
Words have spaces between, also around the colon;
several values of a match have commas between.
In
.B TCPTUNE_RULES
rules have semicolons between.
All matches must hold, the first rule that matches wins, and its settings lie over those without a rule;
.B off
leaves the socket alone.
.TP
.BR dst
The peer of
.BR connect (2):
an address or a network.
.TP
.BR src
The address that the socket is bound to: an address or a network.
.TP
.BR port
The peer's port of
.BR connect (2),
the own port of
.BR bind (2)
and
.BR listen (2);
ranges as in
.BR 5432\-5439 .
.TP
.BR role
.B client
or
.BR server .
.TP
.BR program
Base name of the executable, or of the script that it runs;
.B *
stands for any characters.
.TP
.BR uid
Effective user id at start.
.PP
Where rules look at addresses, options are set at
.BR connect (2),
.BR bind (2)
and
.BR listen (2)
instead of
.BR socket (2).
.SH FILES
.TP
.I /etc/tcptune.conf
Settings
(\fIname\fB = \fIvalue\fR)
and rules, one a line, for every program;
.B #
begins a comment.
It must belong to root and be writable by nobody else.
The file of
.B TCPTUNE_CONFIG
has the same form.
Variables win over that file, and that file over this one.
.TP
.I $XDG_CONFIG_HOME/tcptune/NAME.conf
.TQ
.I ~/.config/tcptune/NAME.conf
.TQ
.I /etc/tcptune/NAME.conf
Profiles of your own, of the same form, which
.B TCPTUNE_PROFILE
names; the first one counts, and takes the place of a built-in one of that name.
Variables win over a profile, and a profile over the other files.
.TP
.I /usr/share/doc/tcptune/docs/
The pages that are named here as
.IR docs/ \&...,
as the package tcptune installs them; troubleshooting.md goes by symptom.
.SH EXIT STATUS
That of the program.
With
.BR TCPTUNE_STRICT=1 ,
a program with a wrong setting does not start: exit status 78.
.SH ERRORS
A
.BR connect (2)
that is ended by
.B TCPTUNE_CONNECT_TIMEOUT
fails with
.BR ETIMEDOUT .
A socket option that the kernel refuses is a warning, and never an error of the program's call.
.SH NOTES
Static binaries, programs that make system calls directly (Go) and connections made by
.BR io_uring (7)
do not call the C library, so nothing can be preloaded for them;
.BR tcptune\-run (1)
and
.BR tcptune\-attach (1)
reach them in other ways.
.PP
In secure execution (setuid, setgid, file capabilities; see
.BR getauxval (3))
nothing of the environment is read, only
.IR /etc/tcptune.conf .
.PP
Children inherit both
.B LD_PRELOAD
and the settings.
.SH EXAMPLES
A connect that gives up after three seconds, and a probe after a minute of silence:
.PP
.in +4n
.EX
LD_PRELOAD=libtcptune.so TCPTUNE_CONNECT_TIMEOUT=3 TCPTUNE_KEEPIDLE=60 curl https://example.com/
.EE
.in
.PP
The settings of a built-in profile, by one variable:
.PP
.in +4n
.EX
LD_PRELOAD=libtcptune.so TCPTUNE_PROFILE=cloud\-nat curl https://example.com/
.EE
.in
.PP
The settings in force, and what becomes of each socket:
.PP
.in +4n
.EX
LD_PRELOAD=libtcptune.so TCPTUNE_KEEPIDLE=1m TCPTUNE_LOG=debug curl https://example.com/
.EE
.in
.PP
A tuned connection that is open and idle shows a keepalive timer, in another terminal:
.PP
.in +4n
.EX
LD_PRELOAD=libtcptune.so TCPTUNE_KEEPIDLE=1m nc HOST PORT
ss \-tno
.EE
.in
.SH SEE ALSO
.BR tcptune (1),
.BR connect (2),
.BR setsockopt (2),
.BR socket (7),
.BR tcp (7),
.BR ld.so (8),
.BR ss (8)
";

/// Text as roff: nothing of it is a request or an escape.
fn roff(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-").replace('×', "\\(mu").replace('…', "...");
    assert!(escaped.is_ascii(), "needs an escape: {text}");
    if escaped.starts_with(['.', '\'']) { format!("\\&{escaped}") } else { escaped }
}

fn setting(page: &mut String, index: usize) -> std::fmt::Result {
    let (option, doc) = (&OPTIONS[index], &DOCS[index]);
    for (i, name) in option.names().enumerate() {
        // .TQ puts an alias under the name, before one common text.
        writeln!(page, "{}\n.B {PREFIX}{name}", if i == 0 { ".TP" } else { ".TQ" })?;
    }
    writeln!(page, "{}\n.br", roff(doc.help))?;
    write!(page, "Value: {}.", roff(&option.kind.accepted(option.range).to_string()))?;
    if !doc.source.is_empty() {
        write!(page, "\n.br\nSee {}", roff(doc.source))?;
        if option.since != Since::NONE {
            write!(page, " (since Linux {})", option.since)?;
        }
        page.push('.');
    }
    writeln!(page)
}

fn page(date: &str) -> Result<String, std::fmt::Error> {
    let version = env!("CARGO_PKG_VERSION");
    let mut page = String::from(".\\\" Written by the example `man` of tcptune-core from the option table.\n");
    writeln!(page, ".TH LIBTCPTUNE 7 {date} \"tcptune {version}\"")?;
    page.push_str(BEGIN);
    for index in 0..OPTIONS.len() {
        setting(&mut page, index)?;
    }
    page.push_str(END);
    Ok(page)
}

fn main() {
    let date = std::env::args().nth(1);
    let is_date = |d: &String| d.len() == 10 && d.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    let Some(date) = date.filter(is_date) else {
        eprintln!("usage: man YYYY-MM-DD");
        std::process::exit(2);
    };
    print!("{}", page(&date).expect("a string takes it"));
}
