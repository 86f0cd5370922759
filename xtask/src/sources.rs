//! apt's source lists, read so that the same mirror can serve another suite.
//!
//! Both forms of `sources.list(5)` are understood; the answer is in the newer one (deb822).

use std::fmt::Write as _;

/// Options that say how far a mirror is trusted, in both spellings. They follow the mirror.
const OPTIONS: [(&str, &str); 4] = [
    ("signed-by", "Signed-By"),
    ("trusted", "Trusted"),
    ("check-valid-until", "Check-Valid-Until"),
    ("check-date", "Check-Date"),
];

/// What a source has: packages to install, or what they are made from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    Binary,
    Source,
}

/// One entry of a source list, of the kind `deb`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Source {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    /// deb822 spelling and value; a value may have several lines.
    options: Vec<(&'static str, String)>,
}

/// Reads a `.list` file: `deb [option=value ...] uri suite component ...`.
pub(crate) fn parse_list(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_list_line).collect()
}

fn parse_list_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim().strip_prefix("deb")?;
    // Not `deb-src`.
    let line = line.strip_prefix([' ', '\t'])?.trim_start();
    let (options, line) = match line.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", line),
    };
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut source = Source {
        uris: vec![words.next()?],
        suites: vec![words.next()?],
        components: words.collect(),
        options: Vec::new(),
    };
    for (name, value) in options.split_whitespace().filter_map(|option| option.split_once('=')) {
        if let Some((_, field)) = OPTIONS.iter().find(|(short, _)| *short == name) {
            source.options.push((field, value.replace(',', " ")));
        }
    }
    Some(source)
}

/// Reads a `.sources` file: stanzas of `Field: value`, indented lines go on with the value.
pub(crate) fn parse_deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    // The empty line at the end closes the last stanza.
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            sources.extend(parse_stanza(&fields));
            fields.clear();
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    sources
}

fn parse_stanza(fields: &[(String, String)]) -> Option<Source> {
    let field = |name: &str| {
        fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    let words = |name| -> Vec<String> {
        field(name).map(|value| value.split_whitespace().map(str::to_owned).collect()).unwrap_or_default()
    };
    let off = field("Enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"));
    if off || !words("Types").iter().any(|kind| kind == "deb") {
        return None;
    }
    let options = OPTIONS.iter().filter_map(|(_, name)| Some((*name, field(name)?.clone()))).collect();
    Some(Source { uris: words("URIs"), suites: words("Suites"), components: words("Components"), options })
}

/// The sources of this machine's release, pointed at `suite`, as a `.sources` file.
///
/// Only the main component of the release itself counts: updates and security have other names in
/// other releases. `None` when no entry does.
pub(crate) fn rewrite(sources: &[Source], release: &str, suite: &str, form: Form) -> Option<String> {
    let types = match form {
        Form::Binary => "deb",
        Form::Source => "deb-src",
    };
    let mut stanzas: Vec<String> = Vec::new();
    for source in sources {
        let Source { uris, suites, components, options } = source;
        let of_release = suites.iter().any(|name| name == release);
        if !of_release || !components.iter().any(|component| component == "main") {
            continue;
        }
        let uris = uris.join(" ");
        let mut stanza = format!("Types: {types}\nURIs: {uris}\nSuites: {suite}\nComponents: main\n");
        for (name, value) in options {
            // Writing to a String cannot fail.
            let _ = writeln!(stanza, "{name}: {value}");
        }
        if !stanzas.contains(&stanza) {
            stanzas.push(stanza);
        }
    }
    (!stanzas.is_empty()).then(|| stanzas.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_line_keeps_its_mirror_and_keyring() {
        let sources = parse_list(
            "# deb http://old.example/debian bookworm main\n\
             deb [arch=amd64 signed-by=/k/a.gpg,/k/b.gpg] http://mirror.example/debian bookworm main contrib # x\n\
             deb http://mirror.example/debian bookworm-updates main\n\
             deb-src http://mirror.example/debian bookworm main\n",
        );
        assert_eq!(sources.len(), 2);
        assert_eq!(
            rewrite(&sources, "bookworm", "sid", Form::Binary).as_deref(),
            Some(
                "Types: deb\nURIs: http://mirror.example/debian\nSuites: sid\nComponents: main\n\
                 Signed-By: /k/a.gpg /k/b.gpg\n"
            )
        );
    }

    #[test]
    fn a_deb822_stanza_keeps_its_mirror_and_keyring() {
        let sources = parse_deb822(
            "Types: deb deb-src\n# a comment\nURIs: http://mirror.example/snapshot/2025\n\
             Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /k/a.gpg\n\
             Check-Valid-Until: no\n\n\
             Types: deb\nURIs: http://mirror.example/security\nSuites: bookworm-security\n\
             Components: main\n",
        );
        assert_eq!(
            rewrite(&sources, "bookworm", "bullseye", Form::Binary).as_deref(),
            Some(
                "Types: deb\nURIs: http://mirror.example/snapshot/2025\nSuites: bullseye\n\
                 Components: main\nSigned-By: /k/a.gpg\nCheck-Valid-Until: no\n"
            )
        );
    }

    #[test]
    fn an_embedded_key_goes_through_whole() {
        let text = "Types: deb\nURIs: http://m.example\nSuites: bookworm\nComponents: main\n\
                    Signed-By:\n -----BEGIN\n .\n key: x\n -----END\n";
        let out = rewrite(&parse_deb822(text), "bookworm", "sid", Form::Binary).unwrap();
        assert!(out.contains("\n -----BEGIN\n .\n key: x\n -----END\n"), "{out}");
        assert_eq!(rewrite(&parse_deb822(&out), "sid", "sid", Form::Binary).unwrap(), out);
    }

    #[test]
    fn other_releases_components_and_disabled_entries_do_not_count() {
        let sources = parse_deb822(
            "Enabled: no\nTypes: deb\nURIs: http://a.example\nSuites: bookworm\nComponents: main\n\n\
             Types: deb\nURIs: http://b.example\nSuites: bookworm\nComponents: contrib\n\n\
             Types: deb\nURIs: http://c.example\nSuites: nodistro\nComponents: main\n\n\
             Types: deb-src\nURIs: http://d.example\nSuites: bookworm\nComponents: main\n",
        );
        assert_eq!(rewrite(&sources, "bookworm", "sid", Form::Binary), None);
    }

    #[test]
    fn equal_entries_are_written_once() {
        let sources =
            parse_list("deb http://m.example bookworm main\ndeb http://m.example bookworm main contrib\n");
        assert_eq!(rewrite(&sources, "bookworm", "sid", Form::Binary).unwrap().matches("Types").count(), 1);
    }
}
