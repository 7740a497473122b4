//! Has `wharf-oci` begin at its own first instructions (src/sys/entry.rs) in place of the C library's.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let architecture = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    if ["aarch64", "x86_64"].contains(&architecture.as_str()) {
        println!("cargo::rustc-link-arg-bin=wharf-oci=-Wl,--entry=wharf_begin");
    }
}
