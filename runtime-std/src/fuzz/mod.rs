//! Bodies of the fuzz targets (`fuzz/`) that need more than the core: each takes any bytes and panics
//! if a promise is broken.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a finding")]

mod certificate;
mod decompress;
mod keyfile;
mod keyring;
mod model;

pub use certificate::certificate;
pub use decompress::decompress;
pub use keyfile::keyfile;
pub use keyring::keyring;
pub use model::model;

#[cfg(test)]
mod tests {
    use ropeway_core::fuzz::replay;

    #[test]
    fn the_certificate_seeds_hold() {
        replay("certificate", super::certificate);
    }

    #[test]
    fn the_decompress_seeds_hold() {
        replay("decompress", super::decompress);
    }

    #[test]
    fn the_keyfile_seeds_hold() {
        replay("keyfile", super::keyfile);
    }

    #[test]
    fn the_keyring_seeds_hold() {
        replay("keyring", super::keyring);
    }

    #[test]
    fn the_model_seeds_hold() {
        replay("model", super::model);
    }
}
