//! What ran a file that cannot run by itself, as argv tells it.
//!
//! For a script the kernel takes argv[0] away and puts the interpreter, the rest of the `#!` line as one argument if there
//! is any, and the path of the script in its place (load_script() in fs/binfmt_script.c). When the interpreter is a script
//! itself, that is done again. So argv begins with the last interpreter, and the path as given follows what the first
//! `#!` line says: `LAST [ARGUMENT] .. FIRST [ARGUMENT] PATH ...`. A file that is run by binfmt_misc is told in the same
//! way, without argument (load_misc_binary() in fs/binfmt_misc.c).
//!
//! Nothing in argv parts interpreters from arguments. An interpreter is taken to be named by a path with a `/`; it has
//! no blanks, as they end it, and does not begin with `-`. Two arguments do not follow each other. What can be both
//! is taken for an interpreter, and the list is not exact.

use tracer_common::event::{FLAG_ELF, FLAG_MISC, FLAG_NO_INTERP, PATH_BYTES};

use crate::record::{Format, Interpreters, MAX_INTERPRETERS, Text};

/// Each interpreter with its argument.
const MAX_WORDS: usize = 2 * MAX_INTERPRETERS;

/// The interpreters of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain<'a> {
    pub(super) interpreters: Interpreters<'a>,
    /// All of them are interpreters, and there are no others.
    pub(super) is_exact: bool,
    /// The first of them was given an argument.
    has_argument: bool,
}

impl<'a> Chain<'a> {
    /// Of the file at `path` that `interp` runs in the end, by itself when that is empty; `args` are those it runs with.
    pub(super) fn new(path: &[u8], interp: &'a [u8], args: &'a [u8]) -> Self {
        let mut last = Self { is_exact: true, ..Self::default() };
        if interp.is_empty() || !last.interpreters.precede(Text(interp)) {
            return last;
        }
        last.parse(path, interp, args).unwrap_or(Self { is_exact: false, ..last })
    }

    /// Puts those before the last one that `args` tell of; `None` when they do not begin as they should.
    fn parse(mut self, path: &[u8], interp: &[u8], args: &'a [u8]) -> Option<Self> {
        let mut words = [&args[..0]; MAX_WORDS];
        for (count, word) in args.split_inclusive(|&byte| byte == 0).enumerate() {
            let word = word.strip_suffix(&[0])?;
            if count > 0 && is(word, path) {
                let (first, rest) = words[..count].split_first()?;
                return is(first, interp).then(|| self.add(rest))?;
            }
            *words.get_mut(count)? = word;
        }
        None
    }

    /// Takes in what stands between the last interpreter and the path.
    fn add(&mut self, words: &[&'a [u8]]) -> Option<Self> {
        let mut follows_interpreter = true;
        for (index, word) in words.iter().enumerate() {
            let is_path = can_be_interpreter(word);
            if follows_interpreter && !is_path {
                (follows_interpreter, self.has_argument) = (false, true);
                continue;
            }
            // Of two words neither of which looks like an interpreter, one is; of two that do, the first may be none,
            // unless the second is followed by an argument of its own.
            let has_argument = || words.get(index + 1).is_some_and(|next| !can_be_interpreter(next));
            self.is_exact &= is_path && (!follows_interpreter || has_argument());
            if !self.interpreters.precede(Text(word)) {
                return None;
            }
            (follows_interpreter, self.has_argument) = (true, false);
        }
        Some(*self)
    }

    /// How the kernel runs the file; `None` when that cannot be told. `flags` are those of the exec, `registered` the
    /// interpreters that binfmt_misc knows.
    pub(super) fn format(&self, flags: u32, registered: Option<&[String]>) -> Option<Format> {
        let is_misc = flags & FLAG_MISC != 0;
        let Some(first) = self.interpreters.as_slice().first() else {
            return (flags & (FLAG_ELF | FLAG_NO_INTERP) == FLAG_ELF).then_some(Format::Elf);
        };
        if self.is_exact && self.has_argument {
            return Some(Format::Script);
        }
        if self.is_exact && is_misc && self.interpreters.as_slice().len() == 1 {
            return Some(Format::BinfmtMisc);
        }
        match registered? {
            [] if !is_misc => Some(Format::Script),
            registered if self.is_exact => {
                let is_first = |path: &String| path.as_bytes() == first.0;
                Some(if registered.iter().any(is_first) { Format::BinfmtMisc } else { Format::Script })
            }
            _ => None,
        }
    }
}

/// Whether a word is this path, of which only the beginning may be known.
fn is(word: &[u8], path: &[u8]) -> bool {
    word == path || path.len() == PATH_BYTES - 1 && word.starts_with(path)
}

fn can_be_interpreter(word: &[u8]) -> bool {
    word.contains(&b'/') && !word.starts_with(b"-") && !word.iter().any(|byte| b" \t".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What may stand behind an interpreter; the last one looks like an interpreter.
    const ARGUMENTS: [Option<&str>; 5] =
        [None, Some("-x"), Some("python3"), Some("-I/a b/c"), Some("/an/argument")];

    fn chain<'a>(path: &str, interp: &'a str, args: &'a [u8]) -> (Vec<Text<'a>>, bool) {
        let chain = Chain::new(path.as_bytes(), interp.as_bytes(), args);
        (chain.interpreters.as_slice().to_vec(), chain.is_exact)
    }

    /// As load_script() does it, from the first `#!` line to the last.
    fn argv(path: &str, lines: &[(String, Option<&str>)], rest: &str) -> Vec<u8> {
        let mut words = vec!["argv[0]".to_owned(), rest.to_owned()];
        let mut interp = path.to_owned();
        for (interpreter, argument) in lines {
            words[0] = interp;
            words.splice(..0, argument.map(str::to_owned));
            words.insert(0, interpreter.clone());
            interp = interpreter.clone();
        }
        words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect()
    }

    /// All chains of up to five, with each kind of argument at each step.
    #[test]
    fn what_is_exact_is_true_and_what_can_be_told_is_exact() {
        for depth in 1..=MAX_INTERPRETERS {
            for mut number in 0..ARGUMENTS.len().pow(depth as u32) {
                let mut lines = Vec::new();
                for step in 0..depth {
                    lines.push((format!("/interpreter/{step}"), ARGUMENTS[number % ARGUMENTS.len()]));
                    number /= ARGUMENTS.len();
                }
                let args = argv("./script", &lines, "./script");
                let (last, _) = lines.last().unwrap();
                let (list, is_exact) = chain("./script", last, &args);
                let truth: Vec<_> = lines.iter().map(|(path, _)| Text(path.as_bytes())).collect();
                let odd = lines.iter().any(|(_, argument)| *argument == ARGUMENTS[4]);
                let bare = lines.windows(2).any(|two| two.iter().all(|(_, argument)| argument.is_none()));
                assert_eq!(is_exact, !odd && !bare, "{lines:?}");
                assert!(odd || list == truth, "{lines:?}: {list:?}");
            }
        }
    }

    #[test]
    fn arguments_that_do_not_fit_leave_the_last_one() {
        let long = "/x".repeat(MAX_WORDS) + "\0";
        for args in [
            &b""[..],
            b"/bin/sh\0",
            b"/bin/sh\0-e\0./scr",
            b"sh\0./script\0",
            b"/bin/sh\0/b\0/c\0/d\0/e\0/f\0./script\0",
            &[b"/bin/sh\0", long.repeat(MAX_WORDS).as_bytes(), b"./script\0"].concat(),
        ] {
            assert_eq!(chain("./script", "/bin/sh", args), (vec![Text(b"/bin/sh")], false));
        }
        assert_eq!(chain("/bin/ls", "", b"ls\0"), (vec![], true));
    }

    #[test]
    fn two_words_without_a_slash_are_not_told_apart() {
        let (list, is_exact) = chain("./s", "/bin/sh", b"/bin/sh\0one\0two\0./s\0");
        assert_eq!((list.len(), is_exact), (2, false));
    }

    #[test]
    fn a_path_that_was_cut_is_known_by_its_beginning() {
        let path = "x".repeat(PATH_BYTES + 9);
        let args = format!("/bin/sh\0-e\0{path}\0");
        assert_eq!(
            chain(&path[..PATH_BYTES - 1], "/bin/sh", args.as_bytes()),
            (vec![Text(b"/bin/sh")], true)
        );
        assert_eq!(
            chain(&path[..PATH_BYTES - 2], "/bin/sh", args.as_bytes()),
            (vec![Text(b"/bin/sh")], false)
        );
    }

    #[test]
    fn formats() {
        let registered = ["/usr/bin/qemu".to_owned()];
        let of = |interp: &'static str, args: &'static str, flags, registered: Option<&[String]>| {
            Chain::new(b"./f", interp.as_bytes(), args.as_bytes()).format(flags, registered)
        };
        let qemu = "/usr/bin/qemu\0./f\0";
        let two = "/usr/bin/qemu\0/bin/of-arm\0./f\0";
        for (interp, args, flags, registered, expected) in [
            ("", "f\0", FLAG_ELF, None, Some(Format::Elf)),
            ("", "f\0", 0, Some(&[][..]), None),
            ("", "f\0", FLAG_ELF | FLAG_NO_INTERP, Some(&[][..]), None),
            ("/bin/sh", "/bin/sh\0-e\0./f\0", FLAG_ELF, None, Some(Format::Script)),
            ("/bin/sh", "/bin/sh\0./f\0", FLAG_ELF, None, None),
            ("/bin/sh", "/bin/sh\0./f\0", FLAG_ELF, Some(&[][..]), Some(Format::Script)),
            ("/bin/sh", "/bin/sh\0./f\0", FLAG_ELF, Some(&registered[..]), Some(Format::Script)),
            ("/bin/sh", "/bin/sh\0/b\0./f\0", FLAG_ELF, Some(&[][..]), Some(Format::Script)),
            ("/usr/bin/qemu", qemu, FLAG_ELF, Some(&registered[..]), Some(Format::BinfmtMisc)),
            ("/usr/bin/qemu", qemu, FLAG_ELF | FLAG_MISC, None, Some(Format::BinfmtMisc)),
            // A script whose interpreter is for another machine, or a file that is given to it with an argument.
            ("/usr/bin/qemu", two, FLAG_ELF, Some(&registered[..]), None),
            ("/usr/bin/qemu", two, FLAG_ELF | FLAG_MISC, Some(&[][..]), None),
        ] {
            assert_eq!(
                of(interp, args, flags, registered),
                expected,
                "{interp} {args:?} {flags:#x} {registered:?}"
            );
        }
    }
}
