//! Classic BPF, written from its end to its start.
//!
//! Jumps lead forward only, so backwards every target exists before the jump to it, and no address ever
//! has to be patched. A conditional jump spans 255 instructions at most; where that does not reach, a
//! return is repeated, and anything else gets an unconditional jump in between.
use super::filter::Action;
use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W,
};
use seccompiler::sock_filter;

/// Where control goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    /// The end of the program, with this action.
    Return(Action),
    /// An instruction, counted from the end of the program.
    At(usize),
}

/// How a conditional jump holds the accumulator against its operand.
#[derive(Debug, Clone, Copy)]
pub(super) enum Jump {
    Equal,
    Greater,
    GreaterOrEqual,
}

/// A conditional jump spans this much, less the one instruction that making its other target reachable
/// may still put in between.
const REACH: usize = u8::MAX as usize - 1;

#[derive(Debug, Default)]
pub(super) struct Assembler {
    reversed: Vec<sock_filter>,
    /// The last return of each action, counted from the end; a profile has a handful of actions.
    returns: Vec<(Action, usize)>,
}

impl Assembler {
    /// `if accumulator jump operand { then } else { otherwise }`
    pub(super) fn branch(&mut self, jump: Jump, operand: u32, then: Label, otherwise: Label) -> Label {
        if then == otherwise {
            return then;
        }
        let then = self.reachable(then);
        let otherwise = self.reachable(otherwise);
        let jump = match jump {
            Jump::Equal => BPF_JEQ,
            Jump::Greater => BPF_JGT,
            Jump::GreaterOrEqual => BPF_JGE,
        };
        let span = |target: usize| u8::try_from(self.reversed.len() - target - 1).unwrap_or(u8::MAX);
        let (jt, jf) = (span(then), span(otherwise));
        self.push(BPF_JMP | jump | BPF_K, jt, jf, operand)
    }

    /// Loads a word of `seccomp_data`, then goes on to `next`.
    pub(super) fn load(&mut self, offset: u32, next: Label) -> Label {
        self.fall_through(next);
        self.push(BPF_LD | BPF_W | BPF_ABS, 0, 0, offset)
    }

    /// Clears the bits of the accumulator that `mask` lacks, then goes on to `next`.
    pub(super) fn and(&mut self, mask: u32, next: Label) -> Label {
        self.fall_through(next);
        self.push(BPF_ALU | BPF_AND | BPF_K, 0, 0, mask)
    }

    /// The program that starts at `start`.
    pub(super) fn finish(mut self, start: Label) -> Vec<sock_filter> {
        self.fall_through(start);
        self.reversed.reverse();
        self.reversed
    }

    /// Makes `next` what follows the instruction pushed next.
    fn fall_through(&mut self, next: Label) {
        match next {
            Label::At(index) if index + 1 == self.reversed.len() => {}
            Label::At(index) => {
                self.far(index);
            }
            Label::Return(action) => {
                self.ret(action);
            }
        }
    }

    fn reachable(&mut self, label: Label) -> usize {
        let near = |assembler: &Self, index: usize| assembler.reversed.len() - index <= REACH;
        match label {
            Label::At(index) if near(self, index) => index,
            Label::At(index) => self.far(index),
            Label::Return(action) => match self.returns.iter().find(|(own, _)| *own == action) {
                Some(&(_, index)) if near(self, index) => index,
                _ => self.ret(action),
            },
        }
    }

    fn far(&mut self, index: usize) -> usize {
        let span = u32::try_from(self.reversed.len() - index - 1).unwrap_or(u32::MAX);
        self.push(BPF_JMP | BPF_JA, 0, 0, span);
        self.reversed.len() - 1
    }

    fn ret(&mut self, action: Action) -> usize {
        self.push(BPF_RET | BPF_K, 0, 0, action.0);
        let index = self.reversed.len() - 1;
        self.returns.retain(|(own, _)| *own != action);
        self.returns.push((action, index));
        index
    }

    fn push(&mut self, code: u32, jt: u8, jf: u8, k: u32) -> Label {
        let code = u16::try_from(code).unwrap_or(u16::MAX);
        self.reversed.push(sock_filter { code, jt, jf, k });
        Label::At(self.reversed.len() - 1)
    }
}
