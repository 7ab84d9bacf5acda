//! concordat-gateway
