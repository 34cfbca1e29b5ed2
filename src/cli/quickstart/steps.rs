//! Printing what was done, and a folder that goes when the story is over.

use std::{
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

use super::super::{Failure, output};

/// Steps that held, each with the time it took.
pub(super) struct Steps {
    number: u32,
    begun: Instant,
    last: Instant,
}

impl Steps {
    pub(super) fn new() -> Self {
        Self { number: 0, begun: Instant::now(), last: Instant::now() }
    }

    pub(super) fn done(&mut self, what: &str) {
        self.number += 1;
        let took = self.last.elapsed().as_millis();
        self.last = Instant::now();
        output::print_text(format!("[{:>2}] {what} ({took} ms)", self.number));
    }

    pub(super) fn sum_up(&self) {
        output::print_text(format!(
            "\nAll {} steps held, in {:.1} s.",
            self.number,
            self.begun.elapsed().as_secs_f32()
        ));
    }
}

/// A folder that only its owner can read.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn make() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("usm-quickstart-{}", uuid::Uuid::new_v4()));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            output::note(format!("{} could not be removed: {error}", self.0.display()));
        }
    }
}
