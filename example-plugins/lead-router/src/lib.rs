//! A web form's leads: checked, given a territory, counted, and forwarded to a CRM.
//!
//! Shows: a body as JSON or as an HTML form, rejecting with a reason, settings, state, an ordered outbox request.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tandem_sdk::prelude::*;

tandem_sdk::solution!(LeadRouter);

struct LeadRouter;

#[derive(Deserialize)]
struct Lead {
    name: String,
    email: String,
    /// ISO 3166-1 alpha-2, in any case.
    country: String,
}

/// What the CRM gets.
#[derive(Serialize)]
struct Routed<'a> {
    name: &'a str,
    email: &'a str,
    country: &'a str,
    territory: &'a str,
    number: u64,
}

/// What the form gets.
#[derive(Serialize)]
struct Answer<'a> {
    territory: &'a str,
    /// Counts the leads of this territory, from 1.
    number: u64,
}

impl Solution for LeadRouter {
    fn handle(message: Message, ctx: &Context) -> Result<Option<Reply>, Failure> {
        let Lead { name, email, country } = match message.media_type() {
            "application/x-www-form-urlencoded" => message.form()?,
            _ => message.json()?,
        };
        let (name, email) = (checked_name(&name)?, checked_email(&email)?);
        let country = checked_country(&country)?;

        let territories: BTreeMap<String, String> = ctx.setting("territories")?.unwrap_or_default();
        let territory =
            territories.get(&country).map_or_else(|| default_territory(&country), String::as_str);
        let number = ctx
            .state()
            .update(&format!("leads/{territory}"), |n: Option<u64>| n.unwrap_or(0) + 1)?;

        // Kept with the count, in one transaction: no lead is counted and lost, or sent and not counted.
        let crm_url: String = ctx.required_setting("crm_url")?;
        let lead = Routed { name, email, country: &country, territory, number };
        let url = format!("{}/leads", crm_url.trim_end_matches('/'));
        ctx.send(Request::post(url).json(&lead)?.ordered("crm"))?;

        ctx.info(format_args!("lead {number} of {territory}"));
        Ok(Some(Reply::json(&Answer { territory, number })?.status(201)))
    }
}

fn checked_name(name: &str) -> Result<&str, Failure> {
    match name.trim() {
        "" => Err(Failure::reject("name: it is empty")),
        name if name.chars().count() > 200 => {
            Err(Failure::reject("name: more than 200 characters"))
        }
        name => Ok(name),
    }
}

/// Its shape only; whether it exists, only a mail can tell.
fn checked_email(email: &str) -> Result<&str, Failure> {
    let email = email.trim();
    let fits = email.split_once('@').is_some_and(|(user, domain)| {
        !user.is_empty()
            && domain.split('.').count() > 1
            && domain.split('.').all(|label| !label.is_empty())
            && !email.contains(|c: char| c.is_whitespace() || c.is_control())
            && !domain.contains('@')
    });
    if fits { Ok(email) } else { Err(Failure::reject(format_args!("email: `{email}` is none"))) }
}

fn checked_country(country: &str) -> Result<String, Failure> {
    let country = country.trim().to_ascii_uppercase();
    if country.len() == 2 && country.bytes().all(|b| b.is_ascii_uppercase()) {
        Ok(country)
    } else {
        Err(Failure::reject(format_args!("country: `{country}` is no two-letter code")))
    }
}

fn default_territory(country: &str) -> &'static str {
    match country {
        "AT" | "CH" | "DE" | "LI" => "dach",
        "DK" | "FI" | "IS" | "NO" | "SE" => "nordics",
        "BE" | "FR" | "LU" | "NL" => "benelux-france",
        "CA" | "MX" | "US" => "north-america",
        _ => "rest-of-world",
    }
}

#[cfg(test)]
mod tests;
