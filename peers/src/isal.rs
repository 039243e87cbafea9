//! Intel ISA-L's erasure coding: the same products over a field of as many elements (its polynomial is 0x11D).

use std::ffi::{c_int, c_uchar};

unsafe extern "C" {
    /// Tables of `32 · k · rows` bytes for a matrix of `rows` times `k` coefficients, row after row.
    fn ec_init_tables(k: c_int, rows: c_int, coefficients: *mut c_uchar, tables: *mut c_uchar);
    /// `outputs[r] = Σ_j coefficients[r][j] · inputs[j]`, all of `len` bytes.
    fn ec_encode_data(
        len: c_int,
        k: c_int,
        rows: c_int,
        tables: *mut c_uchar,
        inputs: *mut *mut c_uchar,
        outputs: *mut *mut c_uchar,
    );
}

/// A matrix of coefficients, made ready.
pub(crate) struct Matrix {
    tables: Vec<u8>,
    inputs: usize,
    rows: usize,
}

impl Matrix {
    /// A matrix without zeros and ones.
    pub(crate) fn new(inputs: usize, rows: usize) -> Self {
        let mut coefficients: Vec<u8> =
            (0..inputs * rows).map(|i| u8::try_from(i * 37 % 253 + 2).expect("below 255")).collect();
        let mut tables = vec![0; 32 * inputs * rows];
        // SAFETY: both buffers have the lengths that the function asks for; it keeps neither.
        unsafe { ec_init_tables(int(inputs), int(rows), coefficients.as_mut_ptr(), tables.as_mut_ptr()) };
        Self { tables, inputs, rows }
    }

    /// Overwrites the outputs.
    pub(crate) fn apply(&mut self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
        assert_eq!((inputs.len(), outputs.len()), (self.inputs, self.rows));
        let len = inputs[0].len();
        assert!(inputs.iter().all(|text| text.len() == len) && outputs.iter().all(|text| text.len() == len));
        let mut sources: Vec<*mut u8> = inputs.iter().map(|text| text.as_ptr().cast_mut()).collect();
        let mut targets: Vec<*mut u8> = outputs.iter_mut().map(|text| text.as_mut_ptr()).collect();
        // SAFETY: there are as many texts as the tables are for, all of one length; the inputs are only read.
        unsafe {
            ec_encode_data(
                int(len),
                int(self.inputs),
                int(self.rows),
                self.tables.as_mut_ptr(),
                sources.as_mut_ptr(),
                targets.as_mut_ptr(),
            );
        }
    }
}

fn int(value: usize) -> c_int {
    c_int::try_from(value).expect("small")
}
