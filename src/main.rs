//! `usm`: the Unified Session Manager.

// Memory stays flat when many connections come and go at once; glibc's allocator keeps their buffers.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    usm::cli::main()
}
