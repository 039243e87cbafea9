//! Stands for the file of a lane that is lost: nothing is read from it and nothing written to it, whatever stands at its
//! place on the disk.

use std::io;

use crate::disk::File;

/// Refuses everything.
pub(crate) struct LostFile;

fn lost<T>() -> io::Result<T> {
    Err(io::Error::other("it is lost"))
}

impl File for LostFile {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
        lost()
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        lost()
    }

    fn sync(&self) -> io::Result<()> {
        lost()
    }

    fn len(&self) -> io::Result<u64> {
        lost()
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        lost()
    }

    fn punch(&self, _: u64, _: u64) -> io::Result<()> {
        lost()
    }
}
