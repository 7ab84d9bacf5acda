//! concordat
