//! Runs a filter as the kernel does, for tests: seccomp(2), Documentation/networking/filter.rst.
use seccompiler::sock_filter;

/// What a filter returned, and after how many instructions.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) action: u32,
    pub(super) executed: usize,
}

pub(super) fn run(program: &[sock_filter], arch: u32, number: u32, args: [u64; 6]) -> Outcome {
    let mut data = Vec::with_capacity(64);
    data.extend(number.to_le_bytes());
    data.extend(arch.to_le_bytes());
    data.extend(0u64.to_le_bytes());
    args.iter().for_each(|arg| data.extend(arg.to_le_bytes()));
    let (mut accumulator, mut at, mut executed) = (0, 0, 0);
    loop {
        let instruction = &program[at];
        let k = instruction.k;
        executed += 1;
        at += 1;
        let branch = |taken: bool| usize::from(if taken { instruction.jt } else { instruction.jf });
        match u32::from(instruction.code) {
            0x20 => {
                let offset = k as usize;
                assert_eq!(offset % 4, 0);
                accumulator = u32::from_le_bytes(data[offset..offset + 4].try_into().unwrap());
            }
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += branch(accumulator == k),
            0x25 => at += branch(accumulator > k),
            0x35 => at += branch(accumulator >= k),
            0x06 => return Outcome { action: k, executed },
            code => panic!("instruction {code:#x} is not one the compiler writes"),
        }
    }
}
