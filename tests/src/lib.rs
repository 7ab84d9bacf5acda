//! concordat-tests
