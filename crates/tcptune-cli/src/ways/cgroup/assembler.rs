//! BPF instructions by hand, as far as the programs here need them, and their listing (RFC 9669 has the encoding).

use std::fmt;

mod listing;

/// `r0` to `r10`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reg(u8);

/// What a call returns.
pub const R0: Reg = Reg(0);
pub const R1: Reg = Reg(1);
pub const R2: Reg = Reg(2);
pub const R3: Reg = Reg(3);
pub const R4: Reg = Reg(4);
pub const R5: Reg = Reg(5);
/// The first of the registers that a call leaves alone.
pub const R6: Reg = Reg(6);
pub const R7: Reg = Reg(7);
pub const R8: Reg = Reg(8);
pub const R9: Reg = Reg(9);
/// The end of the stack, which lies below it.
pub const FP: Reg = Reg(10);

/// How many bytes a load or a store moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 4.
    Word,
    /// 8.
    Double,
}

impl Size {
    const fn code(self) -> u8 {
        match self {
            Self::Word => 0x00,
            Self::Double => 0x18,
        }
    }
}

/// A comparison; of numbers without a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    Equal,
    NotEqual,
    Above,
    AtLeast,
    Below,
    /// They have a bit in common.
    AnyBit,
}

/// Code and sign in a listing.
const COMPARISONS: [(Is, u8, &str); 6] = [
    (Is::Equal, 0x10, "=="),
    (Is::NotEqual, 0x50, "!="),
    (Is::Above, 0x20, ">"),
    (Is::AtLeast, 0x30, ">="),
    (Is::Below, 0xa0, "<"),
    (Is::AnyBit, 0x40, "&"),
];

impl Is {
    fn code(self) -> u8 {
        COMPARISONS.iter().find(|(is, ..)| *is == self).map_or(0, |(_, code, _)| *code)
    }
}

/// Arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Add = 0x00,
    Sub = 0x10,
    Mul = 0x20,
    Div = 0x30,
    Or = 0x40,
    And = 0x50,
    Lsh = 0x60,
    Rsh = 0x70,
    Xor = 0xa0,
}

/// The kernel's functions, by number (bpf-helpers(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Helper {
    KtimeGetNs = 5,
    GetCurrentUidGid = 15,
    GetSocketCookie = 46,
    Setsockopt = 49,
    Getsockopt = 57,
    SockOpsCbFlagsSet = 59,
    SkStorageGet = 107,
    KtimeGetCoarseNs = 160,
}

// Classes, modes and sources of an instruction's code.
const LOAD_IMMEDIATE: u8 = 0x18;
const LOAD: u8 = 0x61;
const STORE_IMMEDIATE: u8 = 0x62;
const STORE: u8 = 0x63;
const ATOMIC: u8 = 0xc3;
const ALU: u8 = 0x04;
const ALU64: u8 = 0x07;
const JUMP: u8 = 0x05;
const JUMP32: u8 = 0x06;
const REGISTER: u8 = 0x08;
const MOV: u8 = 0xb0;
const TO_BIG_ENDIAN: u8 = 0xdc;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const ATOMIC_ADD: i32 = 0x00;
const ATOMIC_OR: i32 = 0x40;
const ATOMIC_COMPARE_EXCHANGE: i32 = 0xf1;
/// `BPF_PSEUDO_MAP_FD`: the operand is a map.
const MAP: u8 = 1;
/// `BPF_PSEUDO_MAP_VALUE`: the operand is the address of the first value of an array.
const MAP_VALUE: u8 = 2;

/// One instruction of 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    code: u8,
    dst: Reg,
    src: Reg,
    offset: i16,
    immediate: i32,
}

impl Instruction {
    /// As the kernel takes it.
    pub fn encode(self) -> [u8; 8] {
        let (high, low) = if cfg!(target_endian = "little") { (self.src, self.dst) } else { (self.dst, self.src) };
        let mut bytes = [self.code, high.0 << 4 | low.0, 0, 0, 0, 0, 0, 0];
        bytes[2..4].copy_from_slice(&self.offset.to_ne_bytes());
        bytes[4..].copy_from_slice(&self.immediate.to_ne_bytes());
        bytes
    }
}

/// A place to jump to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

struct Line<M> {
    instruction: Instruction,
    jump: Option<Label>,
    map: Option<M>,
    note: String,
}

/// A program in the making; `M` names its maps.
pub struct Assembler<M> {
    lines: Vec<Line<M>>,
    /// Name, and where it is.
    labels: Vec<(String, Option<usize>)>,
    note: String,
}

/// A program: its maps are not known yet.
pub struct Code<M> {
    lines: Vec<Line<M>>,
    /// As in the assembler; no code has been made for some.
    labels: Vec<(String, Option<usize>)>,
}

/// More instructions between a jump and where it goes than a jump can cross.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

impl<M: Copy + fmt::Debug> Assembler<M> {
    pub fn new() -> Self {
        Self { lines: Vec::new(), labels: Vec::new(), note: String::new() }
    }

    /// A label, which has no place yet.
    pub fn label(&mut self, name: impl Into<String>) -> Label {
        self.labels.push((name.into(), None));
        Label(self.labels.len() - 1)
    }

    /// One of many whose names say nothing more.
    pub fn numbered(&mut self, name: &str) -> Label {
        self.label(format!("{name}_{}", self.labels.len()))
    }

    /// Gives it its place: before the next instruction.
    pub fn here(&mut self, label: Label) {
        if let Some((_, place)) = self.labels.get_mut(label.0) {
            *place = Some(self.lines.len());
        }
    }

    /// What the listing says beside the next instruction.
    pub fn note(&mut self, note: impl Into<String>) -> &mut Self {
        self.note = note.into();
        self
    }

    fn push(&mut self, instruction: Instruction, jump: Option<Label>, map: Option<M>) {
        let note = std::mem::take(&mut self.note);
        self.lines.push(Line { instruction, jump, map, note });
    }

    fn plain(&mut self, code: u8, dst: Reg, src: Reg, offset: i16, immediate: i32) {
        self.push(Instruction { code, dst, src, offset, immediate }, None, None);
    }

    /// `dst = src`, all 64 bits.
    pub fn copy(&mut self, dst: Reg, src: Reg) {
        self.plain(ALU64 | MOV | REGISTER, dst, src, 0, 0);
    }

    /// A number, with its sign.
    pub fn set(&mut self, dst: Reg, number: i32) {
        self.plain(ALU64 | MOV, dst, R0, 0, number);
    }

    /// 64 bits and a number.
    pub fn with(&mut self, op: Op, dst: Reg, number: i32) {
        self.plain(ALU64 | op as u8, dst, R0, 0, number);
    }

    /// 32 bits and a number.
    pub fn with32(&mut self, op: Op, dst: Reg, number: i32) {
        self.plain(ALU | op as u8, dst, R0, 0, number);
    }

    /// 64 bits of two registers.
    pub fn both(&mut self, op: Op, dst: Reg, src: Reg) {
        self.plain(ALU64 | op as u8 | REGISTER, dst, src, 0, 0);
    }

    /// 32 bits of two registers.
    pub fn both32(&mut self, op: Op, dst: Reg, src: Reg) {
        self.plain(ALU | op as u8 | REGISTER, dst, src, 0, 0);
    }

    /// The lower 16 or 32 bits between the byte order of the network and that of the machine.
    pub fn network_order(&mut self, dst: Reg, bits: i32) {
        self.plain(TO_BIG_ENDIAN, dst, R0, 0, bits);
    }

    pub fn load(&mut self, size: Size, dst: Reg, base: Reg, offset: i16) {
        self.plain(LOAD | size.code(), dst, base, offset, 0);
    }

    pub fn store(&mut self, size: Size, base: Reg, offset: i16, src: Reg) {
        self.plain(STORE | size.code(), base, src, offset, 0);
    }

    pub fn store_number(&mut self, size: Size, base: Reg, offset: i16, number: i32) {
        self.plain(STORE_IMMEDIATE | size.code(), base, R0, offset, number);
    }

    /// Adds 64 bits in one step, as other processors see it.
    pub fn atomic_add(&mut self, base: Reg, offset: i16, src: Reg) {
        self.plain(ATOMIC | Size::Double.code(), base, src, offset, ATOMIC_ADD);
    }

    /// The same of bits.
    pub fn atomic_or(&mut self, base: Reg, offset: i16, src: Reg) {
        self.plain(ATOMIC | Size::Double.code(), base, src, offset, ATOMIC_OR);
    }

    /// Stores 64 bits if those that are there equal `r0`, in one step; `r0` is then what was there.
    pub fn compare_exchange(&mut self, base: Reg, offset: i16, src: Reg) {
        self.plain(ATOMIC | Size::Double.code(), base, src, offset, ATOMIC_COMPARE_EXCHANGE);
    }

    pub fn jump(&mut self, to: Label) {
        self.jump_by(JUMP, R0, R0, 0, to);
    }

    /// Jumps if the lower 32 bits compare so with a number.
    pub fn jump_if(&mut self, dst: Reg, is: Is, number: i32, to: Label) {
        self.jump_by(JUMP32 | is.code(), dst, R0, number, to);
    }

    /// Jumps if 64 bits compare so with a number: pointers, and what helpers return.
    pub fn jump_if64(&mut self, dst: Reg, is: Is, number: i32, to: Label) {
        self.jump_by(JUMP | is.code(), dst, R0, number, to);
    }

    /// Jumps if 64 bits of two registers compare so.
    pub fn jump_if_both(&mut self, dst: Reg, is: Is, src: Reg, to: Label) {
        self.jump_by(JUMP | is.code() | REGISTER, dst, src, 0, to);
    }

    fn jump_by(&mut self, code: u8, dst: Reg, src: Reg, immediate: i32, to: Label) {
        self.push(Instruction { code, dst, src, offset: 0, immediate }, Some(to), None);
    }

    pub fn call(&mut self, helper: Helper) {
        self.plain(CALL, R0, R0, 0, helper as i32);
    }

    pub fn exit(&mut self) {
        self.plain(EXIT, R0, R0, 0, 0);
    }

    /// A map, for a helper.
    pub fn map(&mut self, dst: Reg, map: M) {
        self.wide(dst, MAP, map, 0);
    }

    /// The address of a byte of an array's first value.
    pub fn map_value(&mut self, dst: Reg, map: M, offset: i32) {
        self.wide(dst, MAP_VALUE, map, offset);
    }

    fn wide(&mut self, dst: Reg, kind: u8, map: M, offset: i32) {
        let first = Instruction { code: LOAD_IMMEDIATE, dst, src: Reg(kind), offset: 0, immediate: 0 };
        self.push(first, None, Some(map));
        self.plain(0, R0, R0, 0, offset);
    }

    /// Leaves out what no jump leads to, which the verifier refuses, and puts the places of labels into the jumps.
    pub fn finish(mut self) -> Result<Code<M>, TooLong> {
        let is_reached = self.reached();
        let mut place = 0;
        let mut places: Vec<usize> = Vec::with_capacity(is_reached.len() + 1);
        for reached in &is_reached {
            places.push(place);
            place += usize::from(*reached);
        }
        places.push(place);
        for (_, label) in &mut self.labels {
            *label = label.and_then(|at| places.get(at).copied());
        }
        let mut reached = is_reached.iter();
        self.lines.retain(|_| reached.next() == Some(&true));
        for (at, line) in self.lines.iter_mut().enumerate() {
            if let Some(label) = line.jump {
                let place = self.labels.get(label.0).and_then(|(_, place)| *place).ok_or(TooLong)?;
                let distance = place.cast_signed() - at.cast_signed() - 1;
                line.instruction.offset = i16::try_from(distance).map_err(|_| TooLong)?;
            }
        }
        Ok(Code { lines: self.lines, labels: self.labels })
    }

    /// Which instructions the program can come to.
    fn reached(&self) -> Vec<bool> {
        let mut reached = vec![false; self.lines.len()];
        let mut left = vec![0];
        while let Some(at) = left.pop() {
            let (Some(line), Some(seen)) = (self.lines.get(at), reached.get_mut(at)) else { continue };
            if std::mem::replace(seen, true) {
                continue;
            }
            if !matches!(line.instruction.code, JUMP | EXIT) {
                left.push(at + 1);
            }
            left.extend(line.jump.and_then(|label| self.labels.get(label.0)?.1));
        }
        reached
    }
}

impl<M: Copy + fmt::Debug> Code<M> {
    /// As the kernel takes it, with the descriptors of its maps.
    pub fn encode(&self, descriptor: impl Fn(M) -> i32) -> Vec<[u8; 8]> {
        let encode = |line: &Line<M>| {
            let immediate = line.map.map_or(line.instruction.immediate, &descriptor);
            Instruction { immediate, ..line.instruction }.encode()
        };
        self.lines.iter().map(encode).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Table;

    #[test]
    fn a_listing_names_labels_maps_and_helpers() {
        let mut asm = Assembler::new();
        let out = asm.label("out");
        asm.copy(R6, R1);
        asm.note("the operation").load(Size::Word, R2, R6, 0);
        asm.jump_if(R2, Is::NotEqual, 3, out);
        asm.map_value(R1, Table, 16);
        asm.set(R2, -1);
        asm.atomic_add(R1, 8, R2);
        asm.compare_exchange(R1, 8, R2);
        asm.call(Helper::Setsockopt);
        asm.here(out);
        asm.set(R0, 1);
        asm.exit();
        let code = asm.finish().expect("short");
        assert_eq!(
            code.to_string(),
            "    0  r6 = r1\n    1  w2 = *(u32 *)(r6 +0)                    ; the operation\n    2  if w2 != 3 goto out\n    \
             3  r1 = &Table[16]\n    5  r2 = -1\n    6  lock *(u64 *)(r1 +8) += r2\n    \
             7  lock if *(u64 *)(r1 +8) == r0 *(u64 *)(r1 +8) = r2; r0 = old\n    8  call setsockopt\nout:\n    \
             9  r0 = 1\n   10  exit\n"
        );
        let bytes = code.encode(|_| 77);
        assert_eq!(bytes[1], [0x61, 0x62, 0, 0, 0, 0, 0, 0], "load");
        assert_eq!(bytes[2], [0x56, 0x02, 6, 0, 3, 0, 0, 0], "jump over six");
        assert_eq!((bytes[3], bytes[4]), ([0x18, 0x21, 0, 0, 77, 0, 0, 0], [0, 0, 0, 0, 16, 0, 0, 0]), "map value");
        assert_eq!(bytes[6], [0xdb, 0x21, 8, 0, 0, 0, 0, 0], "atomic add");
        assert_eq!(bytes[7], [0xdb, 0x21, 8, 0, 0xf1, 0, 0, 0], "compare and exchange");
        assert_eq!(bytes.len(), 11);
    }

    #[test]
    fn what_no_jump_leads_to_is_left_out() {
        let mut asm = Assembler::<Table>::new();
        let (dead, out) = (asm.label("dead"), asm.label("out"));
        asm.jump_if(R1, Is::Equal, 1, out);
        asm.jump(out);
        asm.here(dead);
        asm.map_value(R1, Table, 0);
        asm.jump(dead);
        asm.here(out);
        asm.exit();
        let listing = "    0  if w1 == 1 goto out\n    1  goto out\nout:\n    2  exit\n";
        assert_eq!(asm.finish().expect("short").to_string(), listing);
    }

    #[test]
    fn a_jump_that_is_too_long_is_an_error() {
        let mut asm = Assembler::<Table>::new();
        let far = asm.label("far");
        asm.jump_if(R1, Is::Equal, 0, far);
        for _ in 0..32_768 {
            asm.set(R0, 0);
        }
        asm.here(far);
        asm.exit();
        assert_eq!(asm.finish().err(), Some(TooLong));
    }
}
