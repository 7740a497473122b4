//! Asks the kernel, from inside a sandbox, what it allows: `/bin/probe` of the shell image.
//!
//! `probe syscall NUMBER [ARGUMENT...]` makes one system call with plain numbers and prints its result, or
//! `errno N` and exits 1. `probe alloc MIB` allocates and touches memory, and prints when it is held.

unsafe extern "C" {
    fn syscall(number: i64, ...) -> i64;
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["syscall", numbers @ ..] => call(numbers),
        ["alloc", mib] => allocate(mib.parse().expect("MIB is a number")),
        _ => {
            eprintln!("use: probe syscall NUMBER [ARGUMENT...] | probe alloc MIB");
            std::process::exit(2);
        }
    }
}

fn call(words: &[&str]) {
    let mut numbers = [0i64; 7];
    for (number, word) in numbers.iter_mut().zip(words) {
        *number = word.parse().expect("system calls take numbers");
    }
    let [number, a, b, c, d, e, f] = numbers;
    // SAFETY: the caller chose a call whose arguments are numbers; at worst this process is hurt.
    let result = unsafe { syscall(number, a, b, c, d, e, f) };
    if result >= 0 {
        println!("{result}");
    } else {
        println!("errno {}", std::io::Error::last_os_error().raw_os_error().unwrap_or(0));
        std::process::exit(1);
    }
}

fn allocate(mib: usize) {
    let mut block = vec![0u8; mib << 20];
    for page in block.chunks_mut(4096) {
        page[0] = 1;
    }
    println!("{} MiB held", std::hint::black_box(&block).len() >> 20);
}
