//! The patterns of `docs/schema.json`: a sequence of character classes with counts, anchored at both ends.
//!
//! Matching never goes back, so it takes one look at each character. A pattern that would need more, or that uses
//! anything else of regular expressions, is refused.

/// A pattern that a text may match as a whole.
#[derive(Debug)]
pub(super) struct Pattern(Vec<Piece>);

/// So many characters of a class.
#[derive(Debug)]
struct Piece {
    /// One bit for each ASCII character.
    class: u128,
    min: usize,
    max: usize,
}

impl Pattern {
    /// Reads a pattern; `None` when it is of another kind.
    pub(super) fn new(text: &str) -> Option<Self> {
        let mut rest = text.strip_prefix('^')?.strip_suffix('$')?;
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let (class, after) = class(rest)?;
            let (min, max, after) = times(after)?;
            pieces.push(Piece { class, min, max });
            rest = after;
        }
        // What a piece may take or leave must not begin what follows.
        let is_clear =
            pieces.windows(2).all(|two| two[0].min == two[0].max || two[0].class & two[1].class == 0);
        is_clear.then_some(Self(pieces))
    }

    /// Whether all of `text` matches.
    pub(super) fn matches(&self, text: &str) -> bool {
        let mut rest = text.as_bytes();
        for Piece { class, min, max } in &self.0 {
            let is_member = |&&byte: &&u8| byte.is_ascii() && class >> byte & 1 == 1;
            let taken = rest.iter().take(*max).take_while(is_member).count();
            if taken < *min {
                return false;
            }
            rest = &rest[taken..];
        }
        rest.is_empty()
    }
}

/// The class at the beginning of `text`, and what follows it.
fn class(text: &str) -> Option<(u128, &str)> {
    const META: &str = "^$.|?*+()[]{}\\";
    let bit = |c: char| c.is_ascii().then(|| 1_u128 << (c as u32));
    let mut chars = text.chars();
    match chars.next()? {
        '\\' => match chars.next()? {
            'd' => Some((range('0', '9'), chars.as_str())),
            c if META.contains(c) => Some((bit(c)?, chars.as_str())),
            _ => None,
        },
        '[' => {
            let (members, rest) = chars.as_str().split_once(']')?;
            let members: Vec<char> = members.chars().collect();
            let mut class = 0;
            let mut rest_of = &members[..];
            while let [first, more @ ..] = rest_of {
                rest_of = match more {
                    ['-', last, more @ ..] if first.is_ascii() && last.is_ascii() => {
                        class |= range(*first, *last);
                        more
                    }
                    more => {
                        class |= bit(*first)?;
                        more
                    }
                };
            }
            let is_plain = !members.contains(&'\\') && members.first() != Some(&'^');
            is_plain.then_some((class, rest))
        }
        c if META.contains(c) => None,
        c => Some((bit(c)?, chars.as_str())),
    }
}

fn range(first: char, last: char) -> u128 {
    (first..=last).fold(0, |class, c| class | 1 << (c as u32))
}

/// How often the class before `text` may come, and what follows that.
fn times(text: &str) -> Option<(usize, usize, &str)> {
    if let Some(rest) = text.strip_prefix('*') {
        return Some((0, usize::MAX, rest));
    }
    if let Some(rest) = text.strip_prefix('+') {
        return Some((1, usize::MAX, rest));
    }
    let Some(rest) = text.strip_prefix('{') else {
        return Some((1, 1, text));
    };
    let (counts, rest) = rest.split_once('}')?;
    let (min, max) = counts.split_once(',').unwrap_or((counts, counts));
    Some((min.parse().ok()?, max.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches() {
        for (pattern, text, expected) in [
            ("^[0-9]+$", "1000", true),
            ("^[0-9]+$", "", false),
            ("^[0-9]+$", "10x", false),
            ("^\\d{4}-\\d{2}$", "2026-11", true),
            ("^\\d{4}-\\d{2}$", "2026-1", false),
            ("^\\d{4}-\\d{2}$", "2026-111", false),
            ("^\\d\\.Z$", "1.Z", true),
            ("^\\d\\.Z$", "1xZ", false),
            ("^[A-Za-z0-9_-]{3}$", "a_-", true),
            ("^[A-Za-z0-9_-]{3}$", "a+-", false),
            ("^[A-Za-z0-9+/]*={0,2}$", "Zg==", true),
            ("^[A-Za-z0-9+/]*={0,2}$", "", true),
            ("^[A-Za-z0-9+/]*={0,2}$", "Zg===", false),
            ("^[A-Za-z0-9+/]*={0,2}$", "Z=g", false),
            ("^SIG[A-Z0-9+]+$", "SIGRTMIN+1", true),
            ("^SIG[A-Z0-9+]+$", "SIG", false),
            ("^[0-9]+$", "１", false),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().matches(text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn what_it_cannot_do_is_refused() {
        for pattern in ["a", "^a|b$", "^(a)$", "^a?$", "^[^a]$", "^\\w$", "^a*a$", "^a{2,1$", "^[a$", "^é$"]
        {
            assert!(Pattern::new(pattern).is_none(), "{pattern}");
        }
    }
}
