//! `.env.example`, from the table of settings.

use super::settings::{EXAMPLE_SECRET, GROUPS, Kind, Setting};

/// The text of `.env.example`: each variable with its help, unit and default.
#[must_use]
pub fn example_text() -> String {
    let mut text = "\
# The settings of chat-server. Copy this file to .env.dev or .env.prod and change what you need.
# A variable of the real environment wins over the one in the file; an empty one counts as unset.
# `chat-server config` prints what is in effect.
"
    .to_owned();
    for group in GROUPS {
        text.push_str(&format!("\n# ---- {} ----\n", group.title));
        for setting in group.settings {
            text.push('\n');
            for line in setting.help.lines() {
                text.push_str(&format!("# {line}\n"));
            }
            text.push_str(&format!("# [{}]\n", unit_and_default(setting)));
            text.push_str(&assignment(setting));
        }
    }
    text
}

fn unit_and_default(setting: &Setting) -> String {
    let default = match setting.default_text() {
        empty if empty.is_empty() => "unset".to_owned(),
        default => default,
    };
    match setting.kind {
        Kind::Number {
            unit: "", min, max, ..
        } => {
            format!("unit: none, {min} to {max}; default: {default}")
        }
        Kind::Number { unit, min, max, .. } => {
            format!("unit: {unit}, {min} to {max}; default: {default}")
        }
        Kind::Flag => format!("unit: 1 or 0; default: {default}"),
        Kind::Text { .. } => format!("unit: text; default: {default}"),
    }
}

/// Only the secret is set: what stays a comment follows the defaults of later versions.
fn assignment(setting: &Setting) -> String {
    match setting.name {
        "JWT_SECRET" => format!("JWT_SECRET={EXAMPLE_SECRET}\n"),
        name => format!("#{name}={}\n", setting.default_text()),
    }
}
