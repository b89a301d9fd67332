//! Writes a policy file that people will go on editing.

use std::fmt::Write as _;

use crate::policy::{FilesPolicy, KeySource, Policy, RepositoryPolicy};

/// Renders a policy as TOML that [`Policy::parse`] reads back to the same value.
pub fn render(policy: &Policy) -> String {
    let mut text = String::from(
        "# What is protected, and where it is kept.\n\
         # Check it with `lifeboat doctor`; the keys are described in docs/cli.md.\n\n",
    );
    push(&mut text, "site", &quote(policy.site.as_str()));
    if let Some(bytes) = policy.memory_bytes {
        push(&mut text, "memory", &quote(&format!("{bytes} B")));
    }
    for files in &policy.files {
        push_files(&mut text, files);
    }
    for repository in &policy.repositories {
        push_repository(&mut text, repository);
    }
    text
}

fn push_files(text: &mut String, files: &FilesPolicy) {
    text.push_str("\n[[files]]\n");
    push(text, "name", &quote(files.name.as_str()));
    let paths: Vec<_> = files.paths.iter().map(|path| path.to_string_lossy()).collect();
    push(text, "paths", &quote_list(&paths));
    if !files.include.is_empty() {
        push(text, "include", &quote_list(&files.include));
    }
    if !files.exclude.is_empty() {
        push(text, "exclude", &quote_list(&files.exclude));
    }
    if files.one_file_system {
        push(text, "one_file_system", "true");
    }
    if !files.skip_caches {
        push(text, "skip_caches", "false");
    }
    if !files.commands.is_empty() {
        text.push_str("commands = [\n");
        for command in &files.commands {
            let _ = writeln!(
                text,
                "  {{ name = {}, command = {}, timeout = \"{} ms\" }},",
                quote(&command.name),
                quote_list(&command.command),
                command.timeout.as_millis()
            );
        }
        text.push_str("]\n");
    }
}

fn push_repository(text: &mut String, repository: &RepositoryPolicy) {
    text.push_str("\n[[repository]]\n");
    push(text, "url", &quote(&repository.url));
    let place = &repository.place;
    for (key, value) in
        [("endpoint", &place.endpoint), ("region", &place.region), ("account", &place.account)]
    {
        if let Some(value) = value {
            push(text, key, &quote(value));
        }
    }
    match &repository.key {
        None => {}
        Some(KeySource::KeyFile(path)) => push(text, "key_file", &quote(&path.to_string_lossy())),
        Some(KeySource::PassphraseFile(path)) => {
            push(text, "passphrase_file", &quote(&path.to_string_lossy()));
        }
        Some(KeySource::PassphraseCommand(words)) => {
            push(text, "passphrase_command", &quote_list(words));
        }
        Some(KeySource::PassphraseEnvironment(name)) => push(text, "passphrase_env", &quote(name)),
        Some(KeySource::IdentityFile(path)) => {
            push(text, "identity_file", &quote(&path.to_string_lossy()));
        }
        // A policy has no place for them, on purpose.
        Some(KeySource::ShareFiles(_)) => {}
    }
}

fn push(text: &mut String, key: &str, value: &str) {
    let _ = writeln!(text, "{key} = {value}");
}

fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn quote_list<S: AsRef<str>>(list: &[S]) -> String {
    let quoted: Vec<_> = list.iter().map(|text| quote(text.as_ref())).collect();
    format!("[{}]", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CommandPolicy, StorePlace};
    use proptest::prelude::*;
    use std::path::PathBuf;
    use std::time::Duration;

    fn words() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec("[ -~äß\"'\\\\\n]{1,12}", 1..4)
    }

    prop_compose! {
        fn files()(
            name in "[a-z][a-z0-9]{0,8}",
            path in "[a-zA-Z0-9 \"'\\\\#äß]{1,12}",
            exclude in prop::collection::vec("[a-z*.]{1,8}", 0..3),
            flags in any::<(bool, bool)>(),
            command in words(),
            timeout_ms in 1_u64..100_000,
        ) -> FilesPolicy {
            FilesPolicy {
                name: name.parse().expect("name"),
                paths: vec![PathBuf::from(format!("/{path}"))],
                include: Vec::new(),
                exclude,
                one_file_system: flags.0,
                skip_caches: flags.1,
                commands: vec![CommandPolicy {
                    name: "list".to_owned(),
                    command,
                    timeout: Duration::from_millis(timeout_ms),
                }],
            }
        }
    }

    fn key() -> impl Strategy<Value = Option<KeySource>> {
        prop_oneof![
            Just(None),
            "[a-z \"]{1,9}".prop_map(|p| Some(KeySource::KeyFile(format!("/{p}").into()))),
            "[a-z]{1,9}".prop_map(|p| Some(KeySource::PassphraseFile(format!("/{p}").into()))),
            words().prop_map(|words| Some(KeySource::PassphraseCommand(words))),
            "[A-Z_]{1,9}".prop_map(|name| Some(KeySource::PassphraseEnvironment(name))),
            "[a-z]{1,9}".prop_map(|p| Some(KeySource::IdentityFile(format!("/{p}").into()))),
        ]
    }

    proptest! {
        #[test]
        fn what_is_rendered_is_read_back(
            files in files(),
            key in key(),
            region in prop::option::of("[a-z0-9-]{1,9}"),
            memory in prop::option::of(67_108_864_u64..1 << 40),
        ) {
            let policy = Policy {
                site: "prod".parse().expect("name"),
                memory_bytes: memory,
                files: vec![files],
                repositories: vec![
                    RepositoryPolicy {
                        url: "/var/\"back\" ups".to_owned(),
                        place: StorePlace::default(),
                        key,
                    },
                    RepositoryPolicy {
                        url: "s3://bucket/a".to_owned(),
                        place: StorePlace {
                            endpoint: Some("http://host:1/a".to_owned()),
                            region: region.clone(),
                            account: None,
                        },
                        key: None,
                    },
                    RepositoryPolicy {
                        url: "az://container/a".to_owned(),
                        place: StorePlace { account: region, ..StorePlace::default() },
                        key: None,
                    },
                ],
            };
            let text = render(&policy);
            prop_assert_eq!(Policy::parse(&text), Ok(policy), "{}", text);
        }
    }
}
