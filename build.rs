//! Has `wharf-oci` begin at its own first instructions (src/sys/entry.rs) in place of the C library's, where it is
//! linked at fixed addresses (.cargo/config.toml): before the C library no other program can find its own parts.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let is_fixed = variable("CARGO_ENCODED_RUSTFLAGS").contains("relocation-model=static");
    if is_fixed && ["aarch64", "x86_64"].contains(&variable("CARGO_CFG_TARGET_ARCH").as_str()) {
        println!("cargo::rustc-link-arg-bin=wharf-oci=-Wl,--entry=wharf_begin");
    }
}
