#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::net::IpAddr;
use std::os::unix::ffi::OsStringExt;

use super::settings::{EXAMPLE_SECRET, Kind};
use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const RSA_PEM: &str = include_str!("../../tests/fixtures/rsa_public.pem");

/// The configuration that these variables make.
fn configure(variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let variables: BTreeMap<_, _> = variables.iter().copied().collect();
    Config::from_lookup(&|name| variables.get(name).map(|value| (*value).to_owned()))
}

/// The same with a good secret.
fn configure_with(name: &str, value: &str) -> Result<Config, ConfigErrors> {
    configure(&[("JWT_SECRET", SECRET), (name, value)])
}

/// The one problem there is, as text.
fn problem(result: Result<Config, ConfigErrors>) -> String {
    let problems = result.unwrap_err().problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    format!("{}: {}", problems[0].name, problems[0].text)
}

/// The configuration as read with this environment in a folder with these files.
fn load_in(
    files: &[(&str, &str)],
    env: &[(&str, &str)],
) -> (Sources, Result<Config, ConfigErrors>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let env: BTreeMap<_, _> = env.iter().copied().collect();
    let sources = Sources::open(folder.path(), &|name| env.get(name).map(OsString::from));
    let config = load_from(&sources);
    (sources, config)
}

#[test]
fn only_a_key_is_needed_and_the_defaults_are_those_of_the_table() {
    let config = configure(&[("JWT_SECRET", SECRET)]).unwrap();
    assert_eq!(config.environment, Environment::Production);
    assert_eq!(config.port, 3000);
    assert_eq!(config.redis.call_timeout, Duration::from_secs(2));
    let described: BTreeMap<_, _> = config.describe().into_iter().collect();
    let without_one = ["RUST_LOG", "JWT_SECRET", "WEB_CLIENT"];
    for setting in settings::all().filter(|s| !without_one.contains(&s.name)) {
        assert_eq!(
            described[setting.name],
            setting.default_text(),
            "{}",
            setting.name
        );
    }
}

#[test]
fn the_page_is_for_development_unless_told_otherwise() {
    for (env, expected) in [
        (vec![("APP_ENV", "dev")], true),
        (vec![("APP_ENV", "dev"), ("WEB_CLIENT", "0")], false),
        (vec![], false),
        (vec![("WEB_CLIENT", "1")], true),
    ] {
        let secret = [("JWT_SECRET", SECRET)];
        let env: Vec<_> = env.into_iter().chain(secret).collect();
        assert_eq!(configure(&env).unwrap().web_client, expected, "{env:?}");
    }
}

#[test]
fn who_listens_everywhere_is_found_on_loopback() {
    for (host, own) in [
        ("0.0.0.0", "127.0.0.1"),
        ("::", "::1"),
        ("127.0.0.2", "127.0.0.2"),
    ] {
        let config = configure(&[("JWT_SECRET", SECRET), ("HOST", host)]).unwrap();
        assert_eq!(config.own_host(), own.parse::<IpAddr>().unwrap());
    }
}

#[test]
fn describe_lists_every_setting_once_and_in_order() {
    let config = configure(&[("JWT_SECRET", SECRET)]).unwrap();
    let described: Vec<_> = config.describe().iter().map(|(name, _)| *name).collect();
    let names = settings::all()
        .map(|s| s.name)
        .filter(|name| *name != "RUST_LOG");
    assert_eq!(described, names.collect::<Vec<_>>());
}

#[test]
fn every_number_is_held_to_its_range() {
    for setting in settings::all() {
        let Kind::Number {
            default, min, max, ..
        } = setting.kind
        else {
            continue;
        };
        assert!((min..=max).contains(&default), "{}", setting.name);
        let mut bad = vec![
            (max + 1).to_string(),
            "-1".into(),
            "1.5".into(),
            "many".into(),
        ];
        bad.extend(min.checked_sub(1).map(|below| below.to_string()));
        for value in bad {
            let text = problem(configure_with(setting.name, &value));
            assert!(text.starts_with(setting.name), "{text}");
            assert!(text.contains(&format!("{value:?}")), "{text}");
            assert!(text.contains(&format!("from {min} to {max}")), "{text}");
        }
    }
    assert_eq!(configure_with("PORT", "0").unwrap().port, 0);
    assert_eq!(configure_with("PORT", " 65535 ").unwrap().port, 65_535);
}

#[test]
fn everything_wrong_is_told_at_once() {
    let errors = configure(&[
        ("APP_ENV", "staging"),
        ("HOST", "localhost"),
        ("PORT", "70000"),
        ("DEV_OPEN", "maybe"),
        ("KEY_PREFIX", "chat:{a}"),
        ("REDIS_URL", "http://localhost"),
        ("JWT_SECRET", SECRET),
        ("JWT_PUBLIC_KEY", RSA_PEM),
        ("VIEWER_LEASE_MS", "999"),
    ])
    .unwrap_err();
    let names: Vec<_> = errors.problems.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "APP_ENV",
            "HOST",
            "PORT",
            "DEV_OPEN",
            "REDIS_URL",
            "KEY_PREFIX",
            "JWT_SECRET",
            "VIEWER_LEASE_MS",
        ]
    );
    let text = errors.to_string();
    assert_eq!(text.lines().count(), 1 + names.len(), "{text}");
    assert!(
        text.contains("\"staging\" is not accepted; give dev, development, prod"),
        "{text}"
    );
}

#[test]
fn app_env_and_its_alias_say_the_environment() {
    let environment = |app: &str, node: &str| {
        configure(&[("JWT_SECRET", SECRET), ("APP_ENV", app), ("NODE_ENV", node)])
            .map(|config| config.environment)
    };
    for value in ["dev", "development"] {
        assert_eq!(environment(value, "").unwrap(), Environment::Development);
        assert_eq!(environment("", value).unwrap(), Environment::Development);
        assert_eq!(environment("prod", value).unwrap(), Environment::Production);
    }
    assert_eq!(
        environment("", "production").unwrap(),
        Environment::Production
    );
    assert!(environment("DEV", "").is_err());
    let text = environment("", "test").unwrap_err().to_string();
    assert!(text.contains("NODE_ENV: \"test\""), "{text}");
}

#[test]
fn content_must_fit_into_a_frame() {
    let small = |content| {
        configure(&[
            ("JWT_SECRET", SECRET),
            ("MAX_FRAME_BYTES", "1024"),
            ("MAX_CONTENT_BYTES", content),
        ])
    };
    assert!(problem(small("1025")).contains("MAX_FRAME_BYTES, 1024"));
    assert_eq!(small("1024").unwrap().limits.max_frame_bytes, 1024);
}

#[test]
fn a_frame_must_fit_into_a_queue() {
    let queue = |bytes| {
        configure(&[
            ("JWT_SECRET", SECRET),
            ("MAX_FRAME_BYTES", "8000000"),
            ("QUEUE_MAX_BYTES", bytes),
        ])
    };
    let text = problem(queue("7999999"));
    assert!(text.contains("QUEUE_MAX_BYTES") && text.contains("MAX_FRAME_BYTES, 8000000"));
    assert!(queue("8000000").is_ok());
}

#[test]
fn origins_of_pages_and_of_apps_are_taken_as_browsers_write_them() {
    let origins = |given| {
        configure(&[("JWT_SECRET", SECRET), ("CORS_ORIGINS", given)]).map(|config| config.origins)
    };
    for (given, taken) in [
        ("https://A.example:443", "https://a.example"),
        ("http://a.example:80", "http://a.example"),
        ("https://a.example:80", "https://a.example:80"),
        ("HTTPS://a.example:8443", "https://a.example:8443"),
        ("http://[::1]:80", "http://[::1]"),
        ("Capacitor://localhost", "capacitor://localhost"),
        ("ionic://localhost", "ionic://localhost"),
        ("tauri://localhost", "tauri://localhost"),
        ("app://.", "app://."),
        ("null", "null"),
    ] {
        let list = AllowedOrigins::List(vec![taken.to_owned()]);
        assert_eq!(origins(given).unwrap(), list, "{given}");
    }
    for wrong in [
        "ftp://a.example",
        "a.example",
        "app://",
        "https://a.example/",
        "file://",
        "nul",
    ] {
        assert!(origins(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn key_prefixes_are_short_and_plain() {
    for good in ["c", "my-chat_2.0", &"x".repeat(32)] {
        assert_eq!(
            configure_with("KEY_PREFIX", good).unwrap().redis.key_prefix,
            good
        );
    }
    for bad in ["a:b", "{a}", "ü", "a b", &"x".repeat(33)] {
        assert!(configure_with("KEY_PREFIX", bad).is_err(), "{bad}");
    }
}

#[test]
fn redis_addresses_of_all_kinds_are_taken_with_database_0() {
    for good in [
        "redis://localhost",
        "redis://localhost:6380/0",
        "redis://user:pa%40ss@127.0.0.1:6379/",
        "redis://[::1]:6379?protocol=resp3",
        "rediss://redis.example.com",
        "unix:///run/redis.sock",
        "redis+unix:///run/redis.sock?db=0&user=u&pass=p",
    ] {
        let config = configure_with("REDIS_URL", good).unwrap();
        assert_eq!(config.redis.url.as_deref(), Some(good));
    }
    for (bad, reason) in [
        ("redis://localhost/1", "database other than 0"),
        ("redis://localhost/?db=2", "database other than 0"),
        ("redis://localhost/x", "invalid database"),
        ("unix:///run/redis.sock?db=1", "database other than 0"),
        ("rediss://localhost/#insecure", "after #"),
        ("redis://", "missing hostname"),
        ("http://localhost", "not an address"),
        ("localhost:6379", "not an address"),
    ] {
        let text = problem(configure_with("REDIS_URL", bad));
        assert!(text.contains(reason), "{bad}: {text}");
    }
}

#[test]
fn tokens_are_checked_with_a_secret_or_a_public_key_but_not_both() {
    let text = problem(configure(&[]));
    assert!(
        text.contains("JWT_SECRET: is not set, nor is JWT_PUBLIC_KEY"),
        "{text}"
    );
    let text = problem(configure(&[
        ("JWT_SECRET", SECRET),
        ("JWT_PUBLIC_KEY", RSA_PEM),
    ]));
    assert!(text.contains("so is JWT_PUBLIC_KEY"), "{text}");
}

#[test]
fn a_public_key_is_text_or_a_file() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/rsa_public.pem");
    let one_line = RSA_PEM.replace('\n', "\\n");
    for value in [RSA_PEM, &one_line, path] {
        let config = configure(&[("JWT_PUBLIC_KEY", value)]).unwrap();
        let KeySource::PublicKeyPem(pem) = config.auth.key else {
            panic!("not a public key");
        };
        assert_eq!(String::from_utf8(pem).unwrap().trim(), RSA_PEM.trim());
    }
    let private = include_str!("../../tests/fixtures/rsa_private.pem");
    for (bad, reason) in [
        (private, "private key"),
        (
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
            "supported kind",
        ),
        ("/no/such/file.pem", "neither PEM text nor the path"),
        ("hunter2hunter2", "neither PEM text nor the path"),
    ] {
        let text = problem(configure(&[("JWT_PUBLIC_KEY", bad)]));
        assert!(text.contains(reason), "{text}");
        assert!(!text.contains(bad) && !text.contains("MII"), "{text}");
    }
}

#[test]
fn production_wants_a_secret_of_its_own_and_a_long_one() {
    let with = |environment, secret| configure(&[("APP_ENV", environment), ("JWT_SECRET", secret)]);
    assert!(EXAMPLE_SECRET.len() >= settings::MIN_SECRET_BYTES);
    for secret in [EXAMPLE_SECRET, &SECRET[1..]] {
        assert!(with("dev", secret).is_ok());
        let text = problem(with("prod", secret));
        assert!(
            text.contains("at least 32 bytes") && !text.contains(secret),
            "{text}"
        );
    }
    assert!(with("prod", SECRET).is_ok());
}

#[test]
fn the_examples_secret_is_for_a_server_that_nobody_else_reaches() {
    let with = |host, open, secret| {
        let variables = [("APP_ENV", "dev"), ("HOST", host), ("DEV_OPEN", open)];
        configure(&[&variables[..], &[("JWT_SECRET", secret)]].concat())
    };
    for host in ["127.0.0.1", "127.3.2.1", "::1"] {
        assert!(with(host, "0", EXAMPLE_SECRET).is_ok());
    }
    for host in ["0.0.0.0", "::", "192.168.0.7"] {
        for open in ["0", "1"] {
            let text = problem(with(host, open, EXAMPLE_SECRET));
            assert!(
                text.starts_with("JWT_SECRET") && text.contains("openssl rand"),
                "{text}"
            );
            assert!(text.contains(&format!("HOST={host}")), "{text}");
            assert!(!text.contains(EXAMPLE_SECRET), "{text}");
            assert!(with(host, open, SECRET).is_ok());
        }
    }
}

#[test]
fn pages_of_this_machine_may_come_in_development_and_others_where_it_is_said() {
    let origins = |environment, open, given| {
        let variables = [
            ("APP_ENV", environment),
            ("DEV_OPEN", open),
            ("CORS_ORIGINS", given),
            ("JWT_SECRET", SECRET),
        ];
        configure(&variables).unwrap().origins
    };
    let listed = || vec!["https://a.example".to_owned()];
    let given = "https://A.example";
    assert_eq!(origins("dev", "0", ""), AllowedOrigins::ThisMachine(vec![]));
    assert_eq!(
        origins("dev", "0", given),
        AllowedOrigins::ThisMachine(listed())
    );
    assert_eq!(origins("dev", "1", ""), AllowedOrigins::Any);
    assert_eq!(origins("dev", "1", given), AllowedOrigins::List(listed()));
    for open in ["0", "1"] {
        assert_eq!(origins("dev", open, "*"), AllowedOrigins::Any);
        assert_eq!(origins("prod", open, ""), AllowedOrigins::List(vec![]));
        assert_eq!(origins("prod", open, given), AllowedOrigins::List(listed()));
    }
}

#[test]
fn secrets_are_never_shown() {
    for url in [
        "redis://bob:hunter2@localhost",
        "unix:///tmp/r.sock?user=bob&pass=hunter2",
    ] {
        let config = configure_with("REDIS_URL", url).unwrap();
        let shown = format!("{config:?} {:?}", config.describe());
        assert!(
            !shown.contains("hunter2") && !shown.contains(SECRET),
            "{shown}"
        );
        assert!(shown.contains("bob"), "{shown}");
    }
    for url in [
        "redis://bob:hunter2@localhost/1",
        "redis//bob:hunter2@localhost",
        "hunter2",
    ] {
        let text = problem(configure_with("REDIS_URL", url));
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_password_in_an_odd_place_of_an_address_is_not_shown() {
    for odd in [
        // Taken by the driver
        "redis://hunter2@localhost",
        "redis://:hunter2@localhost",
        "redis://bob%3Ahunter2@localhost",
        "redis://bob%3Ahunter2:x@localhost",
        "redis://bob:hunter2%40x@localhost",
        "redis://localhost?password=hunter2",
        "redis://localhost?%70ass=hunter2",
        "redis://localhost?auth=hunter2",
        "redis://localhost/?hunter2",
        "redis://localhost?user=bob&pass=hunter2&pass=hunter2",
        "redis+unix:///run/redis.sock?user=bob&pass=hunter2",
        "unix:///run/redis.sock?password=hunter2",
        "unix:///run/redis.sock?%70%61ss=hunter2",
        "unix:///run/redis.sock?token=hunter2",
        "unix:///run/bob:hunter2@redis.sock",
        // Refused
        "redis://localhost/hunter2",
        "redis://localhost#hunter2",
        "redis://bob:12/hunter2@localhost",
        "redis://bob:12?hunter2@localhost",
        "redis://bob:x@hunter2@localhost",
        "redis://:x@one,redis://:hunter2@two",
        "redis://one,two:hunter2@three",
        "redis://one:6379,bob:hunter2@two:6379",
        "redis://one redis://:hunter2@two",
        "unix://bob:hunter2@/run/redis.sock",
        "redis://hunter2@",
        "rediss://bob:hunter2",
        "REDIS_URL=redis://bob:hunter2@localhost",
    ] {
        let result = configure_with("REDIS_URL", odd);
        let shown = match &result {
            Ok(config) => format!("{config:?} {:?}", config.describe()),
            Err(errors) => format!("{errors} {errors:?}"),
        };
        assert!(!shown.contains("hunter2"), "{odd}: {shown}");
    }
    for (plain, shown) in [
        ("redis://localhost", "redis://localhost"),
        (
            "rediss://bob:x@redis-1.example:6380/0",
            "rediss://bob:***@redis-1.example:6380/0",
        ),
        (
            "redis://[::1]:6379?protocol=resp3",
            "redis://[::1]:6379?protocol=resp3",
        ),
        (
            "unix:///run/r.sock?db=0&user=bob&pass=x",
            "unix:///run/r.sock?db=0&user=bob&pass=***",
        ),
    ] {
        let config = configure_with("REDIS_URL", plain).unwrap();
        let described: BTreeMap<_, _> = config.describe().into_iter().collect();
        assert_eq!(described["REDIS_URL"], shown);
    }
}

#[test]
fn app_env_picks_the_file_and_the_environment_wins_over_it() {
    let files = [
        (
            ".env.dev",
            "PORT=1111\nMAX_PARTICIPANTS=7 # seven\nJWT_SECRET='dev $ecret'\n",
        ),
        (
            ".env.prod",
            "\u{feff}PORT=2222\nexport JWT_SECRET=\"0123456789abcdef0123456789abcdef\"\n",
        ),
    ];
    let (_, config) = load_in(
        &files,
        &[("APP_ENV", "dev"), ("PORT", "3333"), ("HOST", "")],
    );
    let config = config.unwrap();
    assert_eq!((config.port, config.limits.max_participants), (3333, 7));
    assert!(matches!(config.auth.key, KeySource::HmacSecret(s) if s == "dev $ecret"));
    let (_, config) = load_in(&files, &[]);
    assert_eq!(config.unwrap().port, 2222);
}

#[test]
fn an_empty_variable_lets_the_file_speak() {
    let files = [(".env.prod", "PORT=2222")];
    let (_, config) = load_in(&files, &[("PORT", " "), ("JWT_SECRET", SECRET)]);
    assert_eq!(config.unwrap().port, 2222);
}

#[test]
fn a_missing_file_is_fine_and_errors_say_where_was_looked() {
    let (_, config) = load_in(&[], &[("JWT_SECRET", SECRET)]);
    assert!(config.is_ok());
    let (_, config) = load_in(&[], &[]);
    let text = config.unwrap_err().to_string();
    let origin = "(production, because APP_ENV is not set; file .env.prod, not there)";
    assert!(text.contains(origin), "{text}");
}

#[test]
fn a_bad_app_env_is_not_drowned_in_what_follows_from_it() {
    let (_, config) = load_in(&[(".env.dev", "JWT_SECRET=x")], &[("APP_ENV", "devel")]);
    assert!(problem(config).starts_with("APP_ENV: \"devel\""));
}

#[test]
fn an_ill_formed_file_is_reported_with_its_line_and_without_its_text() {
    let text = "PORT=1\n\nJWT_SECRET hunter2\nPORT=2\n";
    let (_, config) = load_in(
        &[(".env.dev", text)],
        &[("APP_ENV", "dev"), ("JWT_SECRET", "s")],
    );
    let errors = config.unwrap_err();
    let text = errors.to_string();
    assert!(
        text.contains(".env.dev: line 3 is not of the form NAME=value"),
        "{text}"
    );
    assert!(
        text.contains(".env.dev: sets PORT more than once"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_file_that_cannot_be_read_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join(".env.prod")).unwrap();
    let sources = Sources::open(folder.path(), &|name| {
        (name == "JWT_SECRET").then(|| OsString::from(SECRET))
    });
    assert!(problem(load_from(&sources)).starts_with(".env.prod: cannot be read"));
}

#[test]
fn a_file_cannot_change_the_environment_that_picked_it() {
    let env = [("APP_ENV", "dev"), ("JWT_SECRET", "s")];
    let (_, config) = load_in(&[(".env.dev", "APP_ENV=development")], &env);
    assert!(config.is_ok());
    for line in ["APP_ENV=production", "NODE_ENV=prod", "APP_ENV=x"] {
        let (_, config) = load_in(&[(".env.dev", line)], &env);
        assert!(problem(config).contains("another APP_ENV"), "{line}");
    }
}

#[test]
fn names_in_the_file_that_are_no_settings_are_told_with_the_nearest_one() {
    let file = "JWT_SECERT='hunter2 hunter2'\nCORS_ORIGIN=*\nport=1\nMAX_CONNECTION_PER_USER=1\n\
                RUST_LOG=info\nAPP_ENV=dev\nNODE_ENV=dev\nHTTP_PROXY=x\n#NOT_A_SETTING=1\n";
    let (sources, config) = load_in(&[(".env.dev", file)], &[("APP_ENV", "dev")]);
    let told: Vec<String> = sources
        .unknown_names()
        .iter()
        .map(Problem::to_string)
        .collect();
    let expected = [
        ".env.dev: CORS_ORIGIN is no setting; is CORS_ORIGINS meant?",
        ".env.dev: HTTP_PROXY is no setting, and does nothing; chat-server config --example prints all there are",
        ".env.dev: JWT_SECERT is no setting; is JWT_SECRET meant?",
        ".env.dev: MAX_CONNECTION_PER_USER is no setting; is MAX_CONNECTIONS_PER_USER meant?",
        ".env.dev: port is no setting; is PORT meant?",
    ];
    assert_eq!(told, expected);

    // They are no reason not to start, but explain one
    let errors = config.unwrap_err().to_string();
    assert!(errors.contains("JWT_SECRET: is not set"), "{errors}");
    assert!(
        errors.contains(expected[2]) && !errors.contains("hunter2"),
        "{errors}"
    );
    let env = [("APP_ENV", "dev"), ("JWT_SECRET", SECRET)];
    assert!(load_in(&[(".env.dev", file)], &env).1.is_ok());
}

#[test]
fn a_variable_that_is_not_utf_8_is_reported() {
    let sources = Sources::open(Path::new("/no/such/folder"), &|name| match name {
        "JWT_SECRET" => Some(OsString::from(SECRET)),
        "PORT" => Some(OsString::from_vec(vec![0xff])),
        _ => None,
    });
    assert_eq!(problem(load_from(&sources)), "PORT: is not valid UTF-8");
}

#[test]
fn rust_log_may_stand_in_the_file() {
    let (sources, _) = load_in(&[(".env.dev", "RUST_LOG=debug")], &[("APP_ENV", "dev")]);
    assert_eq!(sources.get("RUST_LOG").as_deref(), Some("debug"));
    assert!(!log_filter().is_empty());
}

const EXAMPLE_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.env.example");

#[test]
fn the_example_file_mirrors_the_table() {
    let example = fs::read_to_string(EXAMPLE_PATH).unwrap();
    let hint = "renew it: cargo run -- config --example > .env.example";
    assert!(example == example::example_text(), "{hint}");
    let is_assignment = |line: &&str| {
        let name = line.trim_start_matches('#').split('=').next().unwrap();
        line.contains('=')
            && !name.is_empty()
            && !name.contains(|c: char| !c.is_ascii_uppercase() && c != '_')
    };
    let names: Vec<_> = example
        .lines()
        .filter(is_assignment)
        .map(|line| line.trim_start_matches('#').split('=').next().unwrap())
        .collect();
    assert_eq!(names, settings::all().map(|s| s.name).collect::<Vec<_>>());
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
}

#[test]
fn the_example_file_is_a_configuration_for_development() {
    let example = fs::read_to_string(EXAMPLE_PATH).unwrap();
    let (_, config) = load_in(&[(".env.dev", &example)], &[("APP_ENV", "dev")]);
    assert_eq!(config.unwrap().port, 3000);
    let all_set: String = example
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') && !rest.starts_with("APP_ENV") => rest,
            _ => line,
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let (_, config) = load_in(&[(".env.dev", &all_set)], &[("APP_ENV", "dev")]);
    assert!(config.is_ok(), "{config:?}");
}

#[test]
fn the_page_of_settings_lists_each_with_its_default() {
    let page = include_str!("../../docs/settings.md");
    let rows: Vec<(&str, &str)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(name, rest)| (name, rest.split(" | ").next().unwrap().trim_matches('`')))
        .collect();
    let expected: Vec<(&str, String)> = settings::all()
        .map(|setting| match setting.default_text() {
            empty if empty.is_empty() => (setting.name, "unset".to_owned()),
            default => (setting.name, default),
        })
        .collect();
    let rows: Vec<(&str, String)> = rows
        .into_iter()
        .map(|(name, default)| (name, default.to_owned()))
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn a_core_is_left_to_a_redis_on_the_same_machine() {
    let threads = |variables: &[(&str, &str)], cores| {
        let variables = [&[("JWT_SECRET", SECRET)], variables].concat();
        configure(&variables).unwrap().worker_threads_on(cores)
    };
    // Its own Redis, or one that is here
    assert_eq!(threads(&[], 8), 7);
    for here in [
        "redis://localhost:6379",
        "redis://127.0.0.1",
        "redis://user:secret@127.0.0.2:7000",
        "rediss://[::1]:6380",
        "unix:///run/redis.sock",
        "redis+unix:///run/redis.sock?pass=secret",
    ] {
        let there = [("REDIS_URL", here)];
        assert_eq!(threads(&there, 8), 7, "{here}");
        assert_eq!(threads(&there, 2), 1, "{here}");
        assert_eq!(threads(&there, 1), 1, "{here}");
    }
    for elsewhere in [
        "redis://redis:6379",
        "redis://10.0.0.5",
        "rediss://[fd00::1]",
    ] {
        let there = [("REDIS_URL", elsewhere)];
        assert_eq!(threads(&there, 8), 8, "{elsewhere}");
        assert_eq!(threads(&there, 1), 1, "{elsewhere}");
    }
    // What is given counts
    assert_eq!(threads(&[("WORKER_THREADS", "3")], 8), 3);
    assert_eq!(threads(&[("WORKER_THREADS", "16")], 8), 16);
}
