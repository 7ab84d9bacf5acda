//! concordat-node
