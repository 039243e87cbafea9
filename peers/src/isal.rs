//! Intel ISA-L's erasure coding: the same products over a field of as many elements (its polynomial is 0x11D).

use std::ffi::{c_int, c_uchar};

/// What both functions take: length, number of inputs, number of rows, tables, inputs, outputs.
type EncodeData =
    unsafe extern "C" fn(c_int, c_int, c_int, *mut c_uchar, *mut *mut c_uchar, *mut *mut c_uchar);

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
    /// The same by the function that [`ec_encode_data`] calls on a processor that has AVX2 and no AVX-512.
    fn ec_encode_data_avx2(
        len: c_int,
        k: c_int,
        rows: c_int,
        tables: *mut c_uchar,
        inputs: *mut *mut c_uchar,
        outputs: *mut *mut c_uchar,
    );
}

/// Which of ISA-L's functions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    /// The one that it takes itself on this processor.
    Best,
    /// The one for AVX2.
    Avx2,
}

impl Function {
    /// # Panics
    /// Where the processor lacks AVX2, if that is asked for.
    fn address(self) -> EncodeData {
        match self {
            Self::Best => ec_encode_data,
            Self::Avx2 => {
                assert!(is_x86_feature_detected!("avx2"), "this processor has no AVX2");
                ec_encode_data_avx2
            }
        }
    }
}

/// A matrix of coefficients, made ready.
pub(crate) struct Matrix {
    encode: EncodeData,
    tables: Vec<u8>,
    inputs: usize,
    rows: usize,
}

impl Matrix {
    /// A matrix without zeros and ones.
    ///
    /// # Panics
    /// If the function makes something else of the tables than the products: some versions of ISA-L prepare tables of
    /// another form for their other functions.
    pub(crate) fn new(function: Function, inputs: usize, rows: usize) -> Self {
        let mut coefficients: Vec<u8> =
            (0..inputs * rows).map(|i| u8::try_from(i * 37 % 253 + 2).expect("below 255")).collect();
        let mut tables = vec![0; 32 * inputs * rows];
        // SAFETY: both buffers have the lengths that the function asks for; it keeps neither.
        unsafe { ec_init_tables(int(inputs), int(rows), coefficients.as_mut_ptr(), tables.as_mut_ptr()) };
        let mut matrix = Self { encode: function.address(), tables, inputs, rows };
        matrix.check(&coefficients);
        matrix
    }

    fn check(&mut self, coefficients: &[u8]) {
        let inputs: Vec<[u8; 64]> =
            (0..self.inputs).map(|seed| std::array::from_fn(|i| (i * 29 + seed * 53 + 1) as u8)).collect();
        let mut outputs = vec![[0; 64]; self.rows];
        let sources: Vec<&[u8]> = inputs.iter().map(|text| &text[..]).collect();
        self.apply(&sources, &mut outputs.iter_mut().map(|text| &mut text[..]).collect::<Vec<_>>());
        for (row, output) in coefficients.chunks(self.inputs).zip(&outputs) {
            for (at, byte) in output.iter().enumerate() {
                let terms = row.iter().zip(&inputs);
                assert_eq!(*byte, terms.fold(0, |sum, (c, text)| sum ^ product(*c, text[at])));
            }
        }
    }

    /// Overwrites the outputs.
    pub(crate) fn apply(&mut self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
        assert_eq!((inputs.len(), outputs.len()), (self.inputs, self.rows));
        let len = inputs[0].len();
        assert!(inputs.iter().all(|text| text.len() == len) && outputs.iter().all(|text| text.len() == len));
        let mut sources: Vec<*mut u8> = inputs.iter().map(|text| text.as_ptr().cast_mut()).collect();
        let mut targets: Vec<*mut u8> = outputs.iter_mut().map(|text| text.as_mut_ptr()).collect();
        // SAFETY: there are as many texts as the tables are for, all of one length; the inputs are only read. The
        // processor has what the function needs.
        unsafe {
            (self.encode)(
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

/// The product in ISA-L's field.
fn product(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b > 0 {
        product ^= a * (b & 1);
        a = (a << 1) ^ (0x1D * (a >> 7));
        b >>= 1;
    }
    product
}

fn int(value: usize) -> c_int {
    c_int::try_from(value).expect("small")
}
