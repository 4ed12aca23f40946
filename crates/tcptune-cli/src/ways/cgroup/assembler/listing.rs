//! A program as text.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use super::{
    ALU, ALU64, ATOMIC, ATOMIC_COMPARE_EXCHANGE, ATOMIC_OR, CALL, COMPARISONS, Code, EXIT, Helper, Instruction, JUMP,
    JUMP32, Label, Line, MAP, MOV, REGISTER, Reg, TO_BIG_ENDIAN,
};

const OPERATIONS: [(u8, &str); 10] = [
    (0x30, "/="),
    (0x70, ">>="),
    (0x00, "+="),
    (0x10, "-="),
    (0x20, "*="),
    (0x40, "|="),
    (0x50, "&="),
    (0x60, "<<="),
    (0xa0, "^="),
    (MOV, "="),
];
/// By number (bpf-helpers(7)).
const HELPERS: [(Helper, &str); 8] = [
    (Helper::KtimeGetNs, "ktime_get_ns"),
    (Helper::GetCurrentUidGid, "get_current_uid_gid"),
    (Helper::GetSocketCookie, "get_socket_cookie"),
    (Helper::Setsockopt, "setsockopt"),
    (Helper::Getsockopt, "getsockopt"),
    (Helper::SockOpsCbFlagsSet, "sock_ops_cb_flags_set"),
    (Helper::SkStorageGet, "sk_storage_get"),
    (Helper::KtimeGetCoarseNs, "ktime_get_coarse_ns"),
];

/// The listing: as `bpftool prog dump xlated` writes, with labels in place of numbers.
impl<M: Copy + fmt::Debug> fmt::Display for Code<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut second_half = false;
        let used: BTreeSet<_> =
            self.lines.iter().filter_map(|line| Some((self.place(line.jump?)?, line.jump?.0))).collect();
        for (at, line) in self.lines.iter().enumerate() {
            for (_, label) in used.range((at, 0)..=(at, usize::MAX)) {
                writeln!(f, "{}:", self.name(Label(*label)))?;
            }
            if std::mem::replace(&mut second_half, line.map.is_some()) {
                continue; // of an instruction of 16 bytes
            }
            let mut text = String::new();
            self.write(&mut text, at, line)?;
            if line.note.is_empty() {
                writeln!(f, "{at:5}  {text}")?;
            } else {
                writeln!(f, "{at:5}  {text:<38}  ; {}", line.note)?;
            }
        }
        Ok(())
    }
}

impl<M: Copy + fmt::Debug> Code<M> {
    fn place(&self, label: Label) -> Option<usize> {
        self.labels.get(label.0)?.1
    }

    fn name(&self, label: Label) -> &str {
        self.labels.get(label.0).map_or("?", |(name, _)| name)
    }
    fn write(&self, f: &mut String, at: usize, line: &Line<M>) -> fmt::Result {
        let Instruction { code, dst: Reg(dst), src: Reg(src), offset, immediate } = line.instruction;
        let to = || line.jump.map_or("?", |label| self.name(label));
        let class = code & 0x07;
        let by_register = code & REGISTER != 0;
        let narrow = if matches!(class, ALU | JUMP32) { 'w' } else { 'r' };
        let other = if by_register { format!("{narrow}{src}") } else { number(immediate) };
        let size = |code: u8| if code & 0x18 == 0x18 { ("u64", 'r') } else { ("u32", 'w') };
        if let Some(map) = line.map {
            let offset = self.lines.get(at + 1).map_or(0, |second| second.instruction.immediate);
            return match src {
                MAP => write!(f, "r{dst} = map {map:?}"),
                _ => write!(f, "r{dst} = &{map:?}[{offset}]"),
            };
        }
        match code {
            CALL => {
                let name = HELPERS.iter().find(|(helper, _)| *helper as i32 == immediate).map_or("?", |(_, name)| name);
                write!(f, "call {name}")
            }
            EXIT => f.write_str("exit"),
            JUMP => write!(f, "goto {}", to()),
            TO_BIG_ENDIAN => write!(f, "r{dst} = be{immediate} r{dst}"),
            _ if class == ATOMIC & 0x07 && code & 0xe0 == ATOMIC & 0xe0 => {
                let (size, prefix) = size(code);
                let place = format!("*({size} *)(r{dst} {offset:+})");
                match immediate {
                    ATOMIC_COMPARE_EXCHANGE => write!(f, "lock if {place} == r0 {place} = {prefix}{src}; r0 = old"),
                    ATOMIC_OR => write!(f, "lock {place} |= {prefix}{src}"),
                    _ => write!(f, "lock {place} += {prefix}{src}"),
                }
            }
            _ => match class {
                1 => {
                    let (size, prefix) = size(code);
                    write!(f, "{prefix}{dst} = *({size} *)(r{src} {offset:+})")
                }
                2 | 3 => {
                    let (size, prefix) = size(code);
                    let value = if class == 2 { number(immediate) } else { format!("{prefix}{src}") };
                    write!(f, "*({size} *)(r{dst} {offset:+}) = {value}")
                }
                ALU | ALU64 => {
                    let op = OPERATIONS.iter().find(|(op, _)| *op == code & 0xf0).map_or("?", |(_, op)| op);
                    write!(f, "{narrow}{dst} {op} {other}")
                }
                _ => {
                    let op = COMPARISONS.iter().find(|(_, is, _)| *is == code & 0xf0).map_or("?", |(.., op)| op);
                    write!(f, "if {narrow}{dst} {op} {other} goto {}", to())
                }
            },
        }
    }
}

/// What is likely bits in hexadecimal.
fn number(number: i32) -> String {
    if (-0xffff..=0xf_ffff).contains(&number) { number.to_string() } else { format!("{number:#x}") }
}
