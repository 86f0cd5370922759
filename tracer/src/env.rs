//! The environment of new programs, of which the values may be secrets.

use serde::{Deserialize, Serialize};

/// How much is told of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnvMode {
    /// Nothing.
    #[default]
    Off,
    /// The names of the variables.
    Names,
    /// Also their values.
    Values,
}

/// Writes the names of the variables in `env` to `names`, each with a NUL. A variable without `=` has an empty name,
/// whatever it is; of one that was cut before its `=`, the name is not known and left out.
pub(crate) fn names(env: &[u8], names: &mut Vec<u8>) {
    names.clear();
    for variable in env.split_inclusive(|&byte| byte == 0) {
        match variable.iter().position(|&byte| byte == b'=') {
            Some(end) => names.extend_from_slice(&variable[..end]),
            None if variable.ends_with(&[0]) => {}
            None => return,
        }
        names.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_are_left() {
        for (env, expected) in [
            (&b""[..], &b""[..]),
            (b"A=1\0B=\0C=2=3\0", b"A\0B\0C\0"),
            (b"A=1\0LONG=cut off he", b"A\0LONG\0"),
            (b"A=1\0LON", b"A\0"),
            (b"secret\0=secret\0B=b\0", b"\0\0B\0"),
        ] {
            let mut left = b"what was there before".to_vec();
            names(env, &mut left);
            assert_eq!(left, expected, "{}", env.escape_ascii());
        }
    }
}
