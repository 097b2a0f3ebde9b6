//! Builds the node anew when the admin UI was: what is embedded is read while compiling, and cargo knows nothing of it.

fn main() {
    // always there, also before the first build of the UI: an empty file in it is kept in the repository
    println!("cargo::rerun-if-changed=../../admin-ui/dist");
}
