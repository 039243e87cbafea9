//! Links the system's ISA-L.

fn main() {
    println!("cargo::rustc-link-lib=isal");
}
