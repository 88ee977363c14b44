//! Exports the program's constructors, so that `static/worker.js` can run them once.
//!
//! CubeCL registers its types in thousands of constructors. The linker treats a wasm module that never calls
//! `__wasm_call_ctors` as a command, whose every export first runs all of them. Exporting the function prevents that.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "wasm32") {
        println!("cargo::rustc-link-arg-cdylib=--export=__wasm_call_ctors");
    }
}
